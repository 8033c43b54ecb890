import numpy as np
import pandas as pd
import pytest

from bonexray.config import EvaluateConfig
from bonexray.errors import DataError
from bonexray.verdicts import calibrated_probability
from components.scoring import (
    choose_operating_points,
    figures,
    fit_temperature,
    shares_at,
    studies_of,
)

CONFIG = EvaluateConfig(
    seed=0,
    batch_size=8,
    threads=1,
    test_time_flip=False,
    bootstrap_draws=50,
    sensitivity=0.9,
    specificity=0.8,
    min_test_study_auroc=0,
)


def views(count: int = 600, sharpness: float = 2.0, seed: int = 0) -> pd.DataFrame:
    """Views of two-view studies whose logits are right with sharpness."""
    generator = np.random.default_rng(seed)
    study = np.arange(count) // 2
    label = generator.integers(0, 2, count // 2)[study]
    logit = generator.normal((2 * label - 1) * sharpness, 2.0)
    table = pd.DataFrame(
        {
            "study": [f"study{s}" for s in study],
            "patient": [f"patient{s}" for s in study],
            "body_part": "XR_HAND",
            "label": label,
            "split": np.array(["train", "val", "test"])[study % 3],
            "logit": logit,
        }
    )
    return table.assign(probability=calibrated_probability(logit, 1))


def test_a_temperature_takes_back_the_factor_that_logits_were_multiplied_by() -> None:
    table = views(4000)
    honest = fit_temperature(table)
    overconfident = fit_temperature(table.assign(logit=table["logit"] * 5))
    assert overconfident == pytest.approx(5 * honest, rel=0.01)


def test_a_study_holds_the_mean_of_its_views() -> None:
    table = views(60)
    studies = studies_of(table).set_index("study")
    assert len(studies) == 30
    expected = table.loc[table["study"] == "study7", "probability"].mean()
    assert studies.loc["study7", "probability"] == pytest.approx(expected)
    assert (studies["views"] == 2).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_operating_points_reach_their_aims_where_they_are_chosen(seed: int) -> None:
    studies = studies_of(views(800, sharpness=0.7, seed=seed))
    points = choose_operating_points(studies, CONFIG.sensitivity, CONFIG.specificity)
    shares = shares_at(studies, points)
    assert shares["high_sensitivity"]["sensitivity"] >= CONFIG.sensitivity
    assert shares["high_specificity"]["specificity"] >= CONFIG.specificity
    assert shares["doubtful_share"] > 0


def test_one_threshold_serves_both_aims_when_it_can() -> None:
    studies = studies_of(views(400, sharpness=30))
    points = choose_operating_points(studies, CONFIG.sensitivity, CONFIG.specificity)
    assert points.high_sensitivity == points.high_specificity
    assert shares_at(studies, points)["doubtful_share"] == 0


def test_operating_points_need_both_labels() -> None:
    with pytest.raises(DataError, match="need both labels"):
        choose_operating_points(studies_of(views(60).assign(label=1)), 0.9, 0.9)


def test_a_model_that_is_right_by_construction_scores_one_everywhere() -> None:
    table = views(300)
    table["probability"] = table["label"].astype(float)
    for split in figures(table, CONFIG).values():
        for level in split.values():
            assert level["accuracy"] == level["auroc"] == level["kappa"] == 1
            assert level["loss"] == pytest.approx(0)


def test_intervals_hold_their_figures() -> None:
    study = figures(views(), CONFIG)["test"]["study"]
    for name in ("accuracy", "loss", "kappa", "auroc"):
        assert study[f"{name}_low"] <= study[name] <= study[f"{name}_high"]


def test_a_figure_that_is_undefined_is_null() -> None:
    study = figures(views(300).assign(label=1), CONFIG)["test"]["study"]
    assert study["auroc"] is None
    assert study["auroc_low"] is None
