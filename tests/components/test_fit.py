from pathlib import Path

import pytest
import torch

from bonexray.config import TrainConfig
from bonexray.errors import DataError
from bonexray.network import LimbNet, Reading
from bonexray.policy import Policy
from components.batches import Batch, Source
from components.checkpoint import Checkpoint
from components.fit import EpochRecord, Fit, loss_of, run_epochs, start_fit

RECIPES: dict[str, dict[str, object]] = {
    "the seed's": {},
    "cosine": {"schedule": "cosine", "ema_decay": 0.8},
    "everything": {
        "schedule": "one_cycle",
        "weighting": "part_and_label",
        "label_smoothing": 0.1,
        "mixup_alpha": 0.2,
        "ema_decay": 0.8,
        "first_size_fraction": 0.5,
    },
}


def started(config: TrainConfig, learning: Source) -> Fit:
    torch.manual_seed(0)
    steps = -(-len(learning) // config.batch_size) * config.epochs
    return start_fit(LimbNet("resnet18"), config, steps)


def ignore(_: EpochRecord) -> None:
    pass


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_learns_what_can_be_learnt(
    learning: Source, judging: Source, policy: Policy, train_config: TrainConfig, recipe: str
) -> None:
    config = train_config.model_copy(update=RECIPES[recipe])
    fit = started(config, learning)
    told: list[float] = []
    run_epochs(fit, learning, judging, policy, config, lambda e: told.append(e["epoch"]))
    assert told == [1, 2, 3, 4]
    assert fit.history[-1]["train_loss"] < fit.history[0]["train_loss"]
    assert fit.best["val_auroc"] > 0.95


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_taken_up_after_an_epoch_ends_in_the_weights_of_an_uninterrupted_one(
    learning: Source,
    judging: Source,
    policy: Policy,
    train_config: TrainConfig,
    tmp_path: Path,
    recipe: str,
) -> None:
    config = train_config.model_copy(update=RECIPES[recipe] | {"epochs": 2})
    whole = started(config, learning)
    checkpoint = Checkpoint(tmp_path / "out")
    kept = False

    def keep_the_first(_: EpochRecord) -> None:
        nonlocal kept
        if not kept:
            checkpoint.save("run", whole)
            kept = True

    run_epochs(whole, learning, judging, policy, config, keep_the_first)
    taken_up = started(config, learning)
    checkpoint.restore("run", taken_up, torch.device("cpu"))
    run_epochs(taken_up, learning, judging, policy, config, ignore)
    assert taken_up.history == whole.history
    for name, value in whole.judged.state_dict().items():
        assert torch.equal(value, taken_up.judged.state_dict()[name]), name


def test_the_kept_weights_are_those_of_the_best_epoch_and_the_rate_falls_on_a_plateau(
    learning: Source, judging: Source, policy: Policy, train_config: TrainConfig
) -> None:
    config = train_config.model_copy(update={"epochs": 6})
    fit = started(config, learning)
    kept = {}

    def note(epoch: EpochRecord) -> None:
        kept[epoch["epoch"]] = fit.network.state_dict()["label_head.weight"].clone()

    run_epochs(fit, learning, judging, policy, config, note)
    assert torch.equal(fit.best_weights["label_head.weight"], kept[fit.best["epoch"]])
    losses = [epoch["val_loss"] for epoch in fit.history]
    rates = [epoch["learning_rate"] for epoch in fit.history]
    for now in range(1, len(losses)):
        fell = rates[now] < rates[now - 1]
        plateau = now > 1 and losses[now - 1] >= min(losses[: now - 1]) * (1 - 1e-4)
        assert fell == plateau


def test_an_average_is_what_is_validated_and_kept(
    learning: Source, judging: Source, policy: Policy, train_config: TrainConfig
) -> None:
    config = train_config.model_copy(update={"ema_decay": 0.9, "epochs": 1})
    fit = started(config, learning)
    run_epochs(fit, learning, judging, policy, config, ignore)
    assert torch.equal(fit.best_weights["label_head.weight"], fit.judged.label_head.weight)
    assert not torch.equal(fit.judged.label_head.weight, fit.network.label_head.weight)


def test_a_rate_curve_ends_near_zero(
    learning: Source, judging: Source, policy: Policy, train_config: TrainConfig
) -> None:
    for schedule in ("cosine", "one_cycle"):
        config = train_config.model_copy(update={"schedule": schedule, "epochs": 2})
        fit = started(config, learning)
        run_epochs(fit, learning, judging, policy, config, ignore)
        assert fit.optimizer.param_groups[0]["lr"] < 1e-5 * config.learning_rate + 1e-8


def test_the_loss_is_torchs_own_cross_entropy_when_nothing_is_weighted(
    train_config: TrainConfig,
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, part_logits = (torch.randn(5, k, generator=generator) for k in (2, 7))
    labels, parts = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 6, 3, 3, 1])
    reading = Reading(logits, part_logits, torch.zeros(5, 1, 1), torch.zeros(5, 4))
    batch = Batch(
        torch.zeros(5, 1, 8, 8),
        torch.nn.functional.one_hot(labels, 2).float(),
        torch.nn.functional.one_hot(parts, 7).float(),
        torch.ones(5),
    )
    reference = torch.nn.CrossEntropyLoss()
    expected = reference(logits, labels) + 0.1 * reference(part_logits, parts)
    torch.testing.assert_close(loss_of(reading, batch, train_config), expected)


def test_a_loss_that_is_no_number_names_epoch_and_step(
    learning: Source, judging: Source, policy: Policy, train_config: TrainConfig
) -> None:
    config = train_config.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(DataError, match=r"loss is nan in epoch 1, step \d of 6"):
        run_epochs(started(config, learning), learning, judging, policy, config, ignore)
