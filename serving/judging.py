"""From what the network says of views to what is told of them and of their studies.

h x w is the size of the network's map of evidence.
"""

from collections.abc import Sequence

import numpy as np

from bonexray.analysis import NetworkOutputs, StudyAnswer, judge_study
from bonexray.bundle import Bundle
from serving.engine import ReadView
from serving.heatmap import draw_heatmap
from serving.studies import NO_PROBABILITY, AskedStudies, ToldStudy, ToldView, told_study


def judge(
    asked: AskedStudies,
    views: Sequence[ReadView],
    bundle: Bundle,
    map_shape: tuple[int, ...],
    with_heatmaps: bool,
) -> tuple[list[ToldStudy], list[ToldView]]:
    """Judge studies by those of their views that the network saw.

    Args:
        asked: which study each view is of.
        views: of all studies, in the order of the request.
        bundle: whose network it was.
        map_shape: (h, w).
        with_heatmaps: whether pictures are drawn.

    Returns:
        The studies in the order of their numbers, and the views in the order of the request.
    """
    told_studies: list[ToldStudy] = []
    told_views: dict[int, ToldView] = {}
    for study in range(asked.count):
        own = [at for at, number in enumerate(asked.study_of) if number == study]
        seen = [at for at in own if views[at].outputs is not None]
        answer = _judge_study([views[at] for at in seen], bundle) if seen else None
        for at in own:
            if answer is None or at not in seen:
                told_views[at] = _unseen(views[at], map_shape)
            else:
                size = bundle.info.image.size if with_heatmaps else 0
                told_views[at] = _seen(views[at], answer, seen.index(at), size)
        told_studies.append(told_study(answer, [told_views[at].refusal for at in own]))
    return told_studies, [told_views[at] for at in range(len(views))]


def _judge_study(views: Sequence[ReadView], bundle: Bundle) -> StudyAnswer:
    outputs = [view.outputs for view in views if view.outputs is not None]
    together = NetworkOutputs(
        logits=np.concatenate([one.logits for one in outputs]),
        part_logits=np.concatenate([one.part_logits for one in outputs]),
        cams=np.concatenate([one.cams for one in outputs]),
        embeddings=np.concatenate([one.embeddings for one in outputs]),
    )
    return judge_study(together, bundle, [view.decoded.claimed_part or None for view in views])


def _seen(view: ReadView, answer: StudyAnswer, place: int, heatmap_size: int) -> ToldView:
    """A view that the network saw, `place` being its own in the answer; 0 px draws no heatmap."""
    cam, decoded = answer.view_cams[place], view.decoded
    return ToldView(
        probability=float(answer.view_probabilities[place]),
        body_part=answer.view_body_parts[place],
        claimed_part=decoded.claimed_part,
        refusal=answer.view_refusals[place],
        note=decoded.note,
        sha256=decoded.sha256,
        instance_uid=decoded.instance_uid,
        cam=cam,
        heatmap=draw_heatmap(cam, decoded.shape, heatmap_size) if heatmap_size else b"",
    )


def _unseen(view: ReadView, map_shape: tuple[int, ...]) -> ToldView:
    decoded = view.decoded
    return ToldView(
        probability=NO_PROBABILITY,
        body_part="",
        claimed_part=decoded.claimed_part,
        refusal=decoded.refusal,
        note=decoded.note,
        sha256=decoded.sha256,
        instance_uid=decoded.instance_uid,
        cam=np.zeros(map_shape, np.float32),
        heatmap=b"",
    )
