"""What the data must be: the Great Expectations suites over the index and the manifest.

A row that fails a `warning` goes into quarantine under its rule's name. A failed `critical` stops
the flow. `info` is told and changes nothing. Importing Great Expectations takes seconds, so only
`validate` imports this module.
"""

from typing import Any

from bonexray.config import ValidateConfig
from bonexray.studies import BODY_PARTS
from components import mura
from components.gx import Expectation, FailureSeverity, gxe
from components.index import PROBLEMS

MIN_SIDE_PX, MAX_SIDE_PX = 64, 8192
MAX_ASPECT_RATIO = 6.0
"""MURA's bounds of width and height allow up to 5.8."""
MIN_PIXEL_STD = 1.0
MIN_PIXEL_MEAN, MAX_PIXEL_MEAN = 4.0, 235.0
MIN_SHARPNESS = 1e-4
MAX_VIEWS = 16
"""Of one study; serving takes no more."""
MAX_DIVERGENCE = 0.1
"""Kullback-Leibler, in nats: of shares from the reference's."""


def file_expectations(config: ValidateConfig) -> list[Expectation]:
    """What each file must be, on the index with its derived columns."""
    in_set: dict[str, tuple[str, list[Any]]] = {
        "unlisted": ("listed", [True]),
        "wrong_extension": ("format", ["PNG"]),
        "colour_mode": ("mode", list(config.colour_modes)),
        "bit_depth": ("bit_depth", [8]),
        "duplicate_across_patients": ("copied_elsewhere", [False]),
    }
    return [
        *(
            _warn(
                gxe.ExpectColumnValuesToNotBeInSet, problem, column="problem", value_set=[problem]
            )
            for problem in PROBLEMS
        ),
        *(
            _warn(gxe.ExpectColumnValuesToBeInSet, rule, column=column, value_set=allowed)
            for rule, (column, allowed) in in_set.items()
        ),
        *_bounds(),
        *_relations(),
    ]


def _relations() -> list[Expectation]:
    """What a file must be beside its study, its patient and the other files."""
    return [
        _warn(
            gxe.ExpectColumnPairValuesToBeEqual,
            "label_disagrees",
            column_A="folder_label",
            column_B="csv_label",
        ),
        _warn(
            gxe.ExpectColumnValuesToBeNull,
            "near_duplicate_across_patients",
            column="near_duplicate_of",
        ),
        _info(
            gxe.ExpectColumnValuesToBeInSet,
            "repeated_view",
            column="repeats_own",
            value_set=[False],
        ),
        _critical(
            gxe.ExpectColumnValuesToBeBetween,
            "patient_in_both_splits",
            column="mura_splits_of_patient",
            max_value=1,
        ),
    ]


def _bounds() -> list[Expectation]:
    between: dict[str, tuple[str, float | None, float | None]] = {
        "width_out_of_range": ("width", MIN_SIDE_PX, MAX_SIDE_PX),
        "height_out_of_range": ("height", MIN_SIDE_PX, MAX_SIDE_PX),
        "absurd_aspect": ("aspect_ratio", None, MAX_ASPECT_RATIO),
        "constant_image": ("pixel_std", MIN_PIXEL_STD, None),
        "badly_exposed": ("pixel_mean", MIN_PIXEL_MEAN, MAX_PIXEL_MEAN),
        "inverted": ("polarity", None, 0.0),
        "blurred": ("sharpness", MIN_SHARPNESS, None),
    }
    return [
        _warn(gxe.ExpectColumnValuesToBeBetween, rule, column=column, min_value=low, max_value=high)
        for rule, (column, low, high) in between.items()
    ]


def manifest_expectations() -> list[Expectation]:
    """What the accepted views must be together; otherwise nothing may be trained on them."""
    labelled_splits = [f"{split}/{label}" for split in ("train", "val", "test") for label in (0, 1)]
    return [
        _critical(gxe.ExpectTableRowCountToBeBetween, "has_views", min_value=1),
        _critical(
            gxe.ExpectColumnValuesToBeBetween,
            "patient_in_one_split",
            column="splits_of_patient",
            max_value=1,
        ),
        _critical(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "both_labels_in_each_split",
            column="split_label",
            value_set=labelled_splits,
        ),
        _critical(
            gxe.ExpectColumnValuesToBeInSet,
            "known_body_part",
            column="body_part",
            value_set=list(BODY_PARTS),
        ),
        _info(
            gxe.ExpectColumnValuesToBeBetween,
            "views_per_study",
            column="views_in_study",
            min_value=1,
            max_value=MAX_VIEWS,
        ),
        _info(
            gxe.ExpectColumnKLDivergenceToBeLessThan,
            "proportions_of_mura",
            column="stratum",
            partition_object=_published_shares(),
            threshold=MAX_DIVERGENCE,
        ),
    ]


def _published_shares() -> dict[str, list[Any]]:
    counts = {
        f"{split}/{part}/{label}": count
        for split, parts in mura.IMAGES.items()
        for part, pair in parts.items()
        for label, count in enumerate(pair)
    }
    total = sum(counts.values())
    return {"values": list(counts), "weights": [count / total for count in counts.values()]}


def totals_expectations() -> list[Expectation]:
    """What an archive that calls itself MURA-v1.1 must hold, on `components.totals`' table."""
    return [
        _critical(
            gxe.ExpectColumnPairValuesToBeEqual,
            "published_totals",
            column_A="listed",
            column_B="published",
        )
    ]


def drift_expectations(profile: dict[str, dict[str, list[Any]]]) -> list[Expectation]:
    """What images must still be like: the champion's training images, property by property."""
    return [
        _info(
            gxe.ExpectColumnKLDivergenceToBeLessThan,
            f"drift_of_{column}",
            column=column,
            partition_object=partition,
            threshold=MAX_DIVERGENCE,
        )
        for column, partition in profile.items()
    ]


def _warn(kind: type[Expectation], rule: str, **settings: Any) -> Expectation:
    return kind(severity=FailureSeverity.WARNING, meta={"rule": rule}, **settings)


def _critical(kind: type[Expectation], rule: str, **settings: Any) -> Expectation:
    return kind(severity=FailureSeverity.CRITICAL, meta={"rule": rule}, **settings)


def _info(kind: type[Expectation], rule: str, **settings: Any) -> Expectation:
    return kind(severity=FailureSeverity.INFO, meta={"rule": rule}, **settings)
