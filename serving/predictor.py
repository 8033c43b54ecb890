"""The study analysis as a model of the Open Inference Protocol. Knows no route and no socket."""

import errno
import logging
import time
import uuid
from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from bonexray.bundle import Bundle
from bonexray.errors import BundleError, RecordsError
from bonexray.images import PREPROCESSING
from serving.answer_records import Answered, AuditedStudy, AuditedView, AuditLog
from serving.engine import Engine, ReadView
from serving.judging import judge
from serving.oip.errors import BadRequestError, NotReadyError
from serving.oip.model import Call, wanted_outputs
from serving.oip.tensors import InferRequest, InferResponse, Parameters
from serving.reading import refuse_mixed
from serving.studies import (
    INPUTS,
    OUTPUTS,
    AskedStudies,
    AskedView,
    ToldStudy,
    ToldView,
    read_studies,
    write_tensors,
)
from serving.watch.logs import tell

MODEL_NAME = "bonexray"
DISCLAIMER = (
    "Research use only; not a medical device. "
    "Abnormal is MURA's label, not a diagnosis of fracture."
)
_GREY_PX = 256
_HEATMAP = "view_heatmap"


class StudyModel:
    """One bundle that reads studies."""

    name = MODEL_NAME
    platform = "onnxruntime_onnx"
    inputs = INPUTS
    outputs = OUTPUTS

    def __init__(
        self, bundle: Bundle, version: str, engine: Engine, audit: AuditLog, max_views: int
    ) -> None:
        """Keep what `warm` and `infer` need; the model is not ready before `warm`.

        Args:
            bundle: what is served.
            version: its version in the registry.
            engine: of the bundle.
            audit: where answers are written down.
            max_views: of a request.
        """
        self.version = version
        self.ready = False
        self._bundle = bundle
        self._engine = engine
        self._audit = audit
        self._max_views = max_views

    def warm(self) -> None:
        """Read a grey view, from file to answer: the first study does not wait.

        Raises:
            BundleError: no answer can be made.
        """
        asked = AskedStudies(views=(AskedView(data=grey_view(), claimed_part=""),), study_of=(0,))
        try:
            views = self._engine.read_now(asked.views)
            judge(asked, views, self._bundle, self._engine.map_shape, with_heatmaps=True)
        except ArithmeticError as error:
            raise BundleError(f"of a grey view: {error}") from error
        self.ready = True

    async def infer(self, request: InferRequest, call: Call) -> InferResponse:
        """Read the studies of a request.

        Raises:
            BadRequestError: it does not hold studies, or a view is no image that we accept.
            DeadlineError: it would have been answered too late.
            NotReadyError: the answer cannot be written down.
        """
        arrived_s = time.perf_counter()
        asked = read_studies(request, self._max_views, self._bundle.info.body_parts)
        return await self._engine.read(
            asked.views,
            _deadline_s(request, call),
            lambda views: self._answer(request, asked, views, call, arrived_s),
        )

    def _answer(
        self,
        request: InferRequest,
        asked: AskedStudies,
        views: Sequence[ReadView],
        call: Call,
        arrived_s: float,
    ) -> InferResponse:
        judging_s = time.perf_counter()
        refuse_mixed([view.decoded for view in views], asked.study_of)
        names = wanted_outputs(request, self)
        told_studies, told_views = judge(
            asked, views, self._bundle, self._engine.map_shape, with_heatmaps=_HEATMAP in names
        )
        answer_id = f"{self._bundle.digest[:16]}-{uuid.uuid4().hex}"
        self._write_down(answer_id, call, asked, told_studies, told_views)
        judged_s = time.perf_counter()
        stages_s = {
            "queue": max(view.waited_s for view in views),
            "decode": sum(view.decoded.seconds for view in views),
            "infer": sum(view.inferred_s for view in views),
            "judge": judged_s - judging_s,
        }
        for stage, seconds in stages_s.items():
            call.watch.stage(stage, judged_s - seconds, judged_s)
        call.watch.note(answer_id=answer_id)
        _tell(call, asked, told_studies, told_views)
        points = self._bundle.info.operating_points
        return InferResponse(
            outputs=write_tensors(told_studies, told_views, points, names),
            parameters={
                **self._identity(answer_id),
                "trace_id": call.watch.trace.trace_id,
                **{f"{name}_ms": round(s * 1000, 3) for name, s in stages_s.items()},
                "total_ms": round((time.perf_counter() - arrived_s) * 1000, 3),
            },
        )

    def _write_down(
        self,
        answer_id: str,
        call: Call,
        asked: AskedStudies,
        studies: Sequence[ToldStudy],
        views: Sequence[ToldView],
    ) -> None:
        answered = Answered(
            answer_id=answer_id,
            client=call.client,
            trace_id=call.watch.trace.trace_id,
            model_version=self.version,
            bundle_digest=self._bundle.digest,
            precision=self._engine.precision,
            preprocessing=PREPROCESSING,
            studies=tuple(
                AuditedStudy(
                    probability=study.probability, verdict=study.verdict, refusal=study.refusal
                )
                for study in studies
            ),
            views=tuple(
                AuditedView(
                    study=number,
                    sha256=view.sha256,
                    claimed_part=view.claimed_part,
                    seen_part=view.body_part,
                    probability=view.probability,
                    refusal=view.refusal,
                )
                for number, view in zip(asked.study_of, views, strict=True)
            ),
        )
        try:
            self._audit.append(answered)
        except (OSError, RecordsError) as error:
            number = error.errno if isinstance(error, OSError) else None
            why = errno.errorcode.get(number or 0, "not_a_record").lower()
            tell("audit_failed", logging.ERROR, code=why, answer_id=answer_id)
            raise NotReadyError("the answer cannot be written down, and so is not given") from error

    def _identity(self, answer_id: str) -> Parameters:
        points = self._bundle.info.operating_points
        return {
            "answer_id": answer_id,
            "model_version": self.version,
            "bundle_digest": self._bundle.digest,
            "precision": self._engine.precision,
            "preprocessing": PREPROCESSING,
            "negative_below": points.high_sensitivity,
            "positive_from": points.high_specificity,
            "disclaimer": DISCLAIMER,
        }


def grey_view() -> bytes:
    """What is read to see whether reading works: a PNG."""
    file = BytesIO()
    Image.new("L", (_GREY_PX, _GREY_PX), 128).save(file, "PNG")
    return file.getvalue()


def _deadline_s(request: InferRequest, call: Call) -> float:
    """The client may allow less than the server: `timeout`, in microseconds, as Triton has it."""
    timeout = request.parameters.get("timeout")
    if timeout is None:
        return call.deadline_s
    if type(timeout) is not int or timeout < 1:
        raise BadRequestError("parameters.timeout: expected a number of microseconds above 0")
    return min(call.deadline_s, time.monotonic() + timeout / 1e6)


def _tell(
    call: Call, asked: AskedStudies, studies: Sequence[ToldStudy], views: Sequence[ToldView]
) -> None:
    for number, study in enumerate(studies):
        pairs = zip(views, asked.study_of, strict=True)
        own = [view.refusal for view, owner in pairs if owner == number]
        call.watch.judge(verdict=study.verdict, refusals=own)
