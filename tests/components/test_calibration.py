import numpy as np
import pandas as pd
import pytest

from bonexray.errors import DataError
from bonexray.metrics import cross_entropy
from bonexray.scoring import studies_of, told_of, values_of, with_probability
from bonexray.verdicts import MEAN_RULE, UNCALIBRATED, calibrated_probability
from components.calibration import (
    choose_operating_points,
    choose_rule,
    fit_calibration,
    fit_temperature,
    fit_view_temperature,
)
from components.figures import shares_at, worst_part

SENSITIVITY, SPECIFICITY = 0.9, 0.8


def views(count: int = 600, sharpness: float = 2.0, seed: int = 0) -> pd.DataFrame:
    """Views of two-view studies whose logits are right with sharpness."""
    generator = np.random.default_rng(seed)
    study = np.arange(count) // 2
    label = generator.integers(0, 2, count // 2)[study]
    return pd.DataFrame(
        {
            "study": [f"study{s:04d}" for s in study],
            "patient": [f"patient{s:04d}" for s in study],
            "body_part": "XR_HAND",
            "study_part": "XR_HAND",
            "refused": "",
            "label": label,
            "split": np.array(["train", "val", "test"])[study % 3],
            "logit": generator.normal((2 * label - 1) * sharpness, 2.0),
        }
    )


def studies(table: pd.DataFrame) -> pd.DataFrame:
    return studies_of(table, MEAN_RULE, UNCALIBRATED)


def test_a_temperature_takes_back_the_factor_that_logits_were_multiplied_by() -> None:
    table = views(4000)
    labels, logits = table["label"].to_numpy(), table["logit"].to_numpy()
    honest, overconfident = fit_temperature(labels, logits), fit_temperature(labels, logits * 5)
    assert overconfident == pytest.approx(5 * honest, rel=0.03)
    told = cross_entropy(labels, calibrated_probability(logits * 5, overconfident))
    assert told < cross_entropy(labels, calibrated_probability(logits * 5, 1)) / 1.5


def test_few_views_move_the_temperature_little() -> None:
    table = views(10, sharpness=8)  # all right: without a prior the surest answer would win
    assert fit_temperature(table["label"].to_numpy(), table["logit"].to_numpy()) > 0.3


def test_a_val_that_is_too_small_is_not_calibrated_on() -> None:
    small = views(98)
    assert small["study"].nunique() == 49
    assert fit_view_temperature(small) == 1
    calibration = fit_calibration(small, MEAN_RULE, 1.0)
    assert calibration == UNCALIBRATED
    assert calibration.val_studies == 0


def test_a_body_part_with_enough_studies_has_its_own_temperature() -> None:
    table = views(600)
    hand = np.arange(600) < 300
    table = table.assign(study_part=np.where(hand, "XR_HAND", "XR_WRIST"))
    table["logit"] *= np.where(hand, 4, 1)
    few = table.iloc[:20].assign(study_part="XR_ELBOW")
    few["study"] = "elbow " + few["study"]
    calibration = fit_calibration(pd.concat([table, few]), MEAN_RULE, 1.0)
    assert set(calibration.parts) == {"XR_HAND", "XR_WRIST"}
    assert calibration.parts["XR_HAND"] > 1.5 * calibration.parts["XR_WRIST"]


def test_the_mean_stands_where_no_rule_is_better_beyond_doubt() -> None:
    rule, compared = choose_rule(views(200), 1.0, draws=200, seed=0)
    assert rule == MEAN_RULE
    assert compared["mean"]["lead"] == 0
    assert set(compared) == {"mean", "max", "min", "noisy_or", "learned"}


def test_a_rule_that_fits_how_findings_show_is_taken_with_its_margin() -> None:
    # All four views show the finding; an artefact looks like one in none to three views.
    generator = np.random.default_rng(0)
    count = 400
    label = generator.integers(0, 2, count)
    logits = generator.normal(-1.5 + 3 * label[:, None], 1, (count, 4))
    logits += 8 * (np.arange(4) < generator.integers(0, 4, (count, 1)))
    table = pd.DataFrame(
        {
            "study": np.repeat([f"study{number:03d}" for number in range(count)], 4),
            "patient": np.repeat([f"patient{number:03d}" for number in range(count)], 4),
            "label": np.repeat(label, 4),
            "logit": logits.ravel(),
            "refused": "",
        }
    )
    rule, compared = choose_rule(table, 1.0, draws=200, seed=0)
    assert rule.name in ("min", "learned")
    assert compared[rule.name]["lead_low"] > 0
    assert compared["learned"]["auroc"] > compared["mean"]["auroc"]
    assert compared["max"]["lead_high"] < 0


def test_a_refused_view_counts_only_when_all_are() -> None:
    table = views(4).assign(label=[0, 0, 1, 1], logit=[-2.0, 5.0, 1.0, 3.0])
    table["refused"] = ["", "unlike", "unlike", "other_part"]
    one, other = studies(table).to_dict("records")
    assert one["probability"] == pytest.approx(1 / (1 + np.exp(2)))
    assert (one["views"], one["refused"]) == (2, 1)
    assert other["probability"] == pytest.approx((1 / (1 + np.exp(-1)) + 1 / (1 + np.exp(-3))) / 2)
    points = choose_operating_points(studies(views(60)), 0.9, 0.9)
    assert told_of(studies(table), points)[1] == "not_analysed"


def test_a_logit_that_is_not_finite_is_refused_with_their_number() -> None:
    table = views(60)
    table.loc[[3, 7], "logit"] = np.nan
    with pytest.raises(DataError, match="2 of 60 views have a logit that is not finite"):
        with_probability(table, UNCALIBRATED)


@pytest.mark.parametrize("seed", range(5))
def test_the_operating_points_reach_their_aims_where_they_are_chosen(seed: int) -> None:
    table = studies(views(800, sharpness=0.7, seed=seed))
    points = choose_operating_points(table, SENSITIVITY, SPECIFICITY)
    shares = shares_at(table, points)
    assert shares["high_sensitivity"]["sensitivity"] >= SENSITIVITY
    assert shares["high_specificity"]["specificity"] >= SPECIFICITY
    assert shares["doubtful_share"] > 0


def test_one_threshold_serves_both_aims_when_it_can() -> None:
    table = studies(views(400, sharpness=30))
    points = choose_operating_points(table, SENSITIVITY, SPECIFICITY)
    assert points.high_sensitivity == points.high_specificity
    assert shares_at(table, points)["doubtful_share"] == 0


def test_operating_points_need_both_labels() -> None:
    with pytest.raises(DataError, match="need both labels"):
        choose_operating_points(studies(views(60).assign(label=1)), 0.9, 0.9)


def test_a_figure_that_is_undefined_is_null() -> None:
    assert values_of(studies(views(60).assign(label=1)))["auroc"] is None


def test_the_worst_part_is_named_only_among_those_with_enough_studies() -> None:
    def part(count: int, abnormal: int, auroc: float) -> dict[str, dict[str, float]]:
        ends = {"auroc_low": auroc - 0.1, "auroc_high": auroc + 0.1}
        return {"study": {"count": count, "abnormal": abnormal, "auroc": auroc} | ends}

    by_part = {"XR_HAND": part(40, 20, 0.9), "XR_WRIST": part(40, 10, 0.8)}
    assert worst_part(by_part | {"XR_ELBOW": part(40, 9, 0.5)})["part"] == "XR_WRIST"
    assert "10 test studies" in worst_part({"XR_ELBOW": part(40, 9, 0.5)})["skipped"]
