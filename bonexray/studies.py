"""MURA's names: body parts, splits, and what an image's path says of its study.

Below MURA's root, a path reads `train/XR_WRIST/patient00042/study1_positive/image2.png`. Knows
nothing of pixels or of the archive that holds them.
"""

import re
from dataclasses import dataclass

BODY_PARTS = (
    "XR_ELBOW",
    "XR_FINGER",
    "XR_FOREARM",
    "XR_HAND",
    "XR_HUMERUS",
    "XR_SHOULDER",
    "XR_WRIST",
)
PART_NUMBERS = {part: number for number, part in enumerate(BODY_PARTS)}
"""What the body-part head calls each: its place in `BODY_PARTS`."""
LABELS = ("normal", "abnormal")
SPLITS = ("train", "val", "test")

_VIEW_PATH = re.compile(
    r"(?P<study>(?P<mura_split>train|valid)/(?P<body_part>XR_[A-Z]+)/(?P<patient>patient\d+)"
    r"/study\d+_(?P<label>positive|negative))/image\d+\.png"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewPath:
    """What the path of one view says."""

    study: str
    """The study's folder, without trailing slash."""
    mura_split: str
    """`train` or `valid`, as MURA divides itself."""
    body_part: str
    patient: str
    label: int
    """1 when the folder is named positive (abnormal), else 0."""


def parse_view_path(path: str) -> ViewPath:
    """Read a view's path.

    Raises:
        ValueError: the path does not have MURA's form, or names a body part MURA does not have.
    """
    match = _VIEW_PATH.fullmatch(path)
    if match is None:
        raise ValueError(
            f"path {path!r}, expected train|valid/XR_<PART>/patient<N>/"
            "study<K>_positive|negative/image<J>.png"
        )
    if match["body_part"] not in BODY_PARTS:
        known = ", ".join(BODY_PARTS)
        raise ValueError(f"body part {match['body_part']!r} in {path!r}, expected one of {known}")
    return ViewPath(
        study=match["study"],
        mura_split=match["mura_split"],
        body_part=match["body_part"],
        patient=match["patient"],
        label=int(match["label"] == "positive"),
    )
