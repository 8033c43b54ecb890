import json
from pathlib import Path

import pytest
import yaml

from bonexray.config import SECTIONS, NetworksConfig, TrainConfig, read_section
from bonexray.errors import ConfigError

ROOT = Path(__file__).parents[2]


def changed(path: Path, section: str, **fields: object) -> str:
    params = yaml.safe_load(path.read_text())
    params[section] |= fields
    path.write_text(yaml.safe_dump(params))
    return str(path)


@pytest.mark.parametrize("file", ["params.yaml", "profiles/mura.yaml"])
def test_every_section_of_the_shipped_parameter_files_can_be_read(file: str) -> None:
    for section in SECTIONS.values():
        assert isinstance(read_section(str(ROOT / file), section), section)


def test_an_unknown_parameter_is_refused_by_its_name(tiny_params: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml: train\.epoch is not a known parameter"):
        read_section(changed(tiny_params, "train", epoch=3), TrainConfig)


def test_a_null_is_refused_by_its_name(tiny_params: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs = None: input should be a valid int"):
        read_section(changed(tiny_params, "train", epochs=None), TrainConfig)


def test_a_value_out_of_range_is_refused_with_the_range(tiny_params: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size = 1: .*greater than or equal to 2"):
        read_section(changed(tiny_params, "train", batch_size=1), TrainConfig)


def test_a_missing_parameter_is_named(tiny_params: Path) -> None:
    params = yaml.safe_load(tiny_params.read_text())
    del params["train"]["seed"]
    tiny_params.write_text(yaml.safe_dump(params))
    with pytest.raises(ConfigError, match=r"train\.seed is missing"):
        read_section(str(tiny_params), TrainConfig)


def test_an_unknown_architecture_is_refused_with_the_known_ones(tiny_params: Path) -> None:
    params = changed(tiny_params, "networks", archs=["resnet34"])
    with pytest.raises(ConfigError, match=r"'resnet34': .*'resnet18', 'resnet50' or 'resnet101'"):
        read_section(params, NetworksConfig)


def test_an_unknown_section_is_refused_with_the_known_ones(tiny_params: Path) -> None:
    params = yaml.safe_load(tiny_params.read_text()) | {"training": {}}
    tiny_params.write_text(yaml.safe_dump(params))
    with pytest.raises(ConfigError, match="unknown section 'training'; expected one of data"):
        read_section(str(tiny_params), TrainConfig)


@pytest.mark.parametrize("text", ["train: [1, 2", "- a\n- b", "\x00"])
def test_a_file_that_is_no_mapping_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        read_section(str(path), TrainConfig)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        read_section(str(tmp_path / "nowhere.yaml"), TrainConfig)


def test_the_doubles_that_kubeflow_makes_of_integers_are_taken_back(tiny_params: Path) -> None:
    from_file = read_section(str(tiny_params), TrainConfig)
    doubles = {
        name: float(value) if isinstance(value, int) else value
        for name, value in from_file.model_dump().items()
    }
    assert read_section(json.dumps(doubles), TrainConfig) == from_file


def test_a_double_that_is_no_integer_is_refused_for_an_integer(tiny_params: Path) -> None:
    fields = read_section(str(tiny_params), TrainConfig).model_dump() | {"epochs": 2.5}
    with pytest.raises(ConfigError, match=r"--params: train\.epochs = 2\.5"):
        read_section(json.dumps(fields), TrainConfig)
