import numpy as np
import pandas as pd
import pytest

from components.subgroups import describe_studies, figures_by_group, largest_gap


def index(count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "width": np.arange(count) + 100,
            "height": 50,
            "pixel_mean": np.linspace(20, 200, count),
        }
    )


def table(count: int = 240) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Studies that are told at random where they are bright, and rightly elsewhere."""
    generator = np.random.default_rng(0)
    label = np.arange(count) % 2
    right = np.where(label, 0.8, 0.2) + generator.normal(0, 0.05, count)
    bright = np.arange(count) >= 2 * count // 3
    studies = pd.DataFrame(
        {
            "study": [f"study{number:03d}" for number in range(count)],
            "patient": [f"patient{number:03d}" for number in range(count)],
            "label": label,
            "probability": np.where(bright, generator.random(count), right.clip(0, 1)),
        }
    )
    views = pd.DataFrame(
        {"study": studies["study"], "row": np.arange(count), "body_part": "XR_HAND"}
    )
    return studies, describe_studies(views, index(count), None)


def test_studies_are_described_by_part_views_exposure_and_size() -> None:
    views = pd.DataFrame(
        {
            "study": ["a", "a", "a", "a", "b", "c", "c"],
            "row": np.arange(7),
            "body_part": ["XR_HAND"] * 4 + ["XR_WRIST"] + ["XR_ELBOW"] * 2,
        }
    )
    described = describe_studies(views, index(7), None).set_index("study")
    assert described["body part"].tolist() == ["hand", "wrist", "elbow"]
    assert described["number of views"].tolist() == ["3 or more", "1", "2"]
    assert described["exposure"].tolist() == ["dark", "middling", "bright"]
    assert described["image size"].tolist() == ["small", "medium", "large"]
    assert "hardware" not in described


def test_what_was_planted_tells_hardware_and_markers() -> None:
    views = pd.DataFrame({"study": ["a", "a", "b"], "row": [0, 1, 2], "body_part": "XR_HAND"})
    truth = pd.DataFrame(
        {
            "row": [0, 0, 1, 2],
            "finding": ["fracture", "hardware", "", ""],
            "marker": [False, False, True, False],
        }
    )
    described = describe_studies(views, index(3), truth).set_index("study")
    assert described["hardware"].tolist() == ["with", "without"]
    assert described["side marker"].tolist() == ["with", "without"]


def test_a_shortcut_shows_as_the_largest_gap() -> None:
    studies, described = table()
    gap = largest_gap(studies, described, draws=100, seed=0)
    assert gap["property"] in ("exposure", "image size")  # both follow the row here
    assert gap["gap"] == pytest.approx(0.5, abs=0.15)
    assert 0.2 < gap["gap_low"] < gap["gap"] < gap["gap_high"]
    groups = figures_by_group(studies, described, draws=50, seed=0)
    assert list(groups["exposure"]) == ["dark", "middling", "bright"]
    assert sum(group["count"] for group in groups["exposure"].values()) == len(studies)


def test_groups_that_are_too_small_are_not_compared() -> None:
    studies, described = table(24)
    assert "10 studies of each label" in largest_gap(studies, described, 10, 0)["skipped"]
