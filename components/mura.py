"""What Stanford published about MURA-v1.1: totals that an archive of that name must hold.

Studies by the paper's table 1, images by the distributed CSVs; both add up to the published sums.
Of 100 abnormal studies that were read again, 53 showed a fracture, 48 hardware, 35 degeneration
and 29 something else (Rajpurkar et al., "MURA", MIDL 2018). Knows no archive and no pixels.
"""

ROOT = "MURA-v1.1"
"""The archive's folder, and the first part of each path in its CSVs."""
WITHDRAWN_ROOT = "MURA-v1.0"

SPLITS = ("train", "valid")
LABELS = ("negative", "positive")
"""As study folders end; a position is the label: 1 is abnormal."""

PATIENTS = {"train": 11_184, "valid": 783}

STUDIES: dict[str, dict[str, tuple[int, int]]] = {
    "train": {
        "XR_ELBOW": (1094, 660),
        "XR_FINGER": (1280, 655),
        "XR_FOREARM": (590, 287),
        "XR_HAND": (1497, 521),
        "XR_HUMERUS": (321, 271),
        "XR_SHOULDER": (1364, 1457),
        "XR_WRIST": (2134, 1326),
    },
    "valid": {
        "XR_ELBOW": (92, 66),
        "XR_FINGER": (92, 83),
        "XR_FOREARM": (69, 64),
        "XR_HAND": (101, 66),
        "XR_HUMERUS": (68, 67),
        "XR_SHOULDER": (99, 95),
        "XR_WRIST": (140, 97),
    },
}
"""Split -> part -> studies by label: normal, abnormal."""

IMAGES: dict[str, dict[str, tuple[int, int]]] = {
    "train": {
        "XR_ELBOW": (2925, 2006),
        "XR_FINGER": (3138, 1968),
        "XR_FOREARM": (1164, 661),
        "XR_HAND": (4059, 1484),
        "XR_HUMERUS": (673, 599),
        "XR_SHOULDER": (4211, 4168),
        "XR_WRIST": (5765, 3987),
    },
    "valid": {
        "XR_ELBOW": (235, 230),
        "XR_FINGER": (214, 247),
        "XR_FOREARM": (150, 151),
        "XR_HAND": (271, 189),
        "XR_HUMERUS": (148, 140),
        "XR_SHOULDER": (285, 278),
        "XR_WRIST": (364, 295),
    },
}
"""Split -> part -> images by label: normal, abnormal."""

WIDTH_PX, HEIGHT_PX = (89, 512), (132, 512)
"""Smallest and largest image."""
