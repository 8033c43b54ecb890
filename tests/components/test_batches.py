import numpy as np
import pytest
import torch

from bonexray.config import AugmentConfig, TrainConfig
from bonexray.images import ImageSpec
from components.batches import (
    Batch,
    Source,
    Views,
    batches_of,
    loss_weights,
    random_of,
    size_in,
)

SPEC = ImageSpec(size=32, mean=0.5, std=0.25)
AUGMENT = AugmentConfig(
    seed=0,
    flip_probability=0.5,
    rotate_degrees=20,
    translate_fraction=0.1,
    scale_fraction=0.1,
    brightness_fraction=0.1,
    contrast_fraction=0.1,
)
CPU = torch.device("cpu")


@pytest.fixture
def views() -> Views:
    """Forty views of the odd rows of eighty images; a quarter abnormal, two parts."""
    images = np.random.default_rng(0).integers(0, 255, (80, 32, 32)).astype(np.uint8)
    return Views(
        images=images,
        rows=np.arange(1, 80, 2),
        labels=(torch.arange(40) % 4 == 0).long(),
        parts=(torch.arange(40) < 8).long(),
    )


def source_of(views: Views) -> Source:
    return Source(views, torch.ones(len(views.rows)), CPU)


def batch_of(
    views: Views, train_config: TrainConfig, epoch: int = 1, index: int = 1, size: int = 32
) -> Batch:
    chosen = batches_of(len(views.rows), train_config, epoch)[index - 1]
    rng = random_of(train_config.seed, epoch, index)
    return source_of(views).batch(chosen, AUGMENT, SPEC, train_config, rng, size)


def test_a_batch_is_replayed_from_seed_epoch_and_index_alone(
    views: Views, train_config: TrainConfig
) -> None:
    mixed = train_config.model_copy(update={"mixup_alpha": 0.4})
    first, again = batch_of(views, mixed, 3, 2), batch_of(views, mixed, 3, 2)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first.images, batch_of(views, mixed, 3, 1).images)
    assert not torch.equal(first.images, batch_of(views, mixed, 4, 2).images)


def test_an_epoch_shows_every_view_once_in_an_order_of_its_own(train_config: TrainConfig) -> None:
    one, two = (torch.cat(batches_of(40, train_config, epoch)).tolist() for epoch in (1, 2))
    assert sorted(one) == sorted(two) == list(range(40))
    assert one != two


def test_a_last_batch_of_a_single_view_is_left_out(train_config: TrainConfig) -> None:
    config = train_config.model_copy(update={"batch_size": 13})
    assert [len(batch) for batch in batches_of(40, config, 1)] == [13, 13, 13]


def test_plain_views_are_the_packed_pixels_normalised(views: Views) -> None:
    chosen = torch.tensor([5, 0])
    expected = (views.images[[11, 1]][:, None].astype(np.float32) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(source_of(views).plain(chosen, SPEC), expected, atol=1e-6)


def test_unmixed_views_carry_their_own_label_and_part(
    views: Views, train_config: TrainConfig
) -> None:
    batch = batch_of(views, train_config)
    chosen = batches_of(40, train_config, 1)[0]
    assert torch.equal(batch.labels.argmax(1), views.labels[chosen])
    assert torch.equal(batch.parts.argmax(1), views.parts[chosen])
    assert set(batch.labels.unique().tolist()) == {0.0, 1.0}


def test_mixing_blends_pixels_and_labels_in_one_share(
    views: Views, train_config: TrainConfig
) -> None:
    mixed = batch_of(views, train_config.model_copy(update={"mixup_alpha": 1.0}))
    shares = mixed.labels.unique()
    assert len(shares) == 4  # 0, 1 and the two sides of one share
    torch.testing.assert_close(mixed.labels.sum(1), torch.ones(len(mixed.labels)))
    plain = batch_of(views, train_config)
    share = float(shares[shares > 0.5].min())
    # Each mixed image is share of one plain image and the rest of another.
    rest = (mixed.images - share * plain.images) / (1 - share)
    other = (mixed.images - (1 - share) * plain.images) / share
    for image, candidates in zip(rest, other, strict=True):
        distances = [
            float((plain.images - image).abs().amax((1, 2, 3)).min()),
            float((plain.images - candidates).abs().amax((1, 2, 3)).min()),
        ]
        assert min(distances) < 1e-3


def test_training_images_are_smaller_in_the_first_half_when_asked(
    views: Views, train_config: TrainConfig
) -> None:
    config = train_config.model_copy(update={"epochs": 5, "first_size_fraction": 0.6})
    assert [size_in(epoch, 224, config) for epoch in range(1, 6)] == [128, 128, 224, 224, 224]
    assert size_in(1, 96, train_config) == 96
    assert batch_of(views, train_config, size=20).images.shape[2:] == (20, 20)


@pytest.mark.parametrize(
    ("weighting", "groups"),
    [("none", lambda v: 0), ("label", lambda v: v[0]), ("part_and_label", lambda v: v)],
)
def test_each_group_has_the_same_weight_and_the_mean_is_one(
    views: Views, train_config: TrainConfig, weighting: str, groups: object
) -> None:
    weights = loss_weights(views, train_config.model_copy(update={"weighting": weighting}))
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    sums: dict[object, float] = {}
    for label, part, weight in zip(views.labels, views.parts, weights, strict=True):
        group = groups((int(label), int(part)))  # type: ignore[operator]
        sums[group] = sums.get(group, 0) + float(weight)
    assert np.ptp(list(sums.values())) < 1e-4
