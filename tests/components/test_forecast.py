import pytest

from bonexray.config import TrainConfig
from bonexray.errors import ConfigError
from bonexray.network import LimbNet
from bonexray.policy import Policy
from components.batches import Source
from components.forecast import Forecast, forecast
from components.group import ALONE


def test_a_forecast_leaves_the_network_as_it_was_and_counts_the_epochs_left(
    learning: Source, judging: Source, policy: Policy, train_config: TrainConfig
) -> None:
    network = LimbNet("resnet18")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    told = forecast(network, learning, judging, policy, train_config, 0, ALONE)
    assert told.seconds > 0
    assert told.images_per_second > 0
    assert all((value == before[name]).all() for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(75.4, "about 1 min 15 s, 40 images/s"), (7322, "about 2 h 2 min, 40 images/s")],
)
def test_a_forecast_is_said_in_the_units_of_a_clock(seconds: float, said: str) -> None:
    assert Forecast(seconds=seconds, images_per_second=40).sentence() == said


def test_a_price_gives_a_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICE_PER_HOUR", "3.5")
    told = Forecast(seconds=7200, images_per_second=40).sentence()
    assert told == "about 2 h 0 min at a cost of 7.00, 40 images/s"


def test_a_price_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICE_PER_HOUR", "cheap")
    with pytest.raises(ConfigError, match="PRICE_PER_HOUR = 'cheap'"):
        Forecast(seconds=7200, images_per_second=40).sentence()
