from pathlib import Path

import pytest

from bonexray.config import TrainConfig
from bonexray.errors import ConfigError, DataError
from components.inputs import Inputs, learning_and_judging, read_inputs


@pytest.fixture(scope="module")
def inputs(tiny_workspace: Path) -> Inputs:
    data = tiny_workspace / "data"
    return read_inputs(data / "dataset", data / "validated", data / "policy")


def test_a_fold_is_judged_by_what_the_others_taught_and_test_is_in_neither(
    inputs: Inputs, train_config: TrainConfig
) -> None:
    manifest = inputs.manifest.set_index("row")
    learning, judging = learning_and_judging(inputs, train_config, fold=1)
    assert set(manifest.loc[judging.rows, "fold"]) == {1}
    assert set(manifest.loc[learning.rows, "fold"]) == {0, 2}
    assert len(learning.rows) + len(judging.rows) == (manifest["split"] != "test").sum()


def test_more_processes_than_studies_or_images_in_a_batch_are_refused(
    inputs: Inputs, train_config: TrainConfig
) -> None:
    studies = inputs.manifest.query("split == 'train'")["study"].nunique()
    crowd = train_config.model_copy(update={"processes": studies + 1, "batch_size": 100})
    with pytest.raises(DataError, match=f"there are {studies} studies to learn from"):
        learning_and_judging(inputs, crowd)
    crowd = train_config.model_copy(update={"processes": 3, "batch_size": 2})
    with pytest.raises(ConfigError, match=r"processes = 3, but train.batch_size = 2"):
        learning_and_judging(inputs, crowd)
