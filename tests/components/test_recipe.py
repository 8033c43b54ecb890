from pathlib import Path

import pytest
import yaml

from components.recipe import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    return path


def apply(params: Path, recipe: Path) -> None:
    main([str(recipe), "--params", str(params)])


def test_the_seeds_recipe_changes_its_own_fields_and_nothing_else(params: Path) -> None:
    before = yaml.safe_load(params.read_text())
    recipe = yaml.safe_load((ROOT / "recipes/seed.yaml").read_text())
    apply(params, ROOT / "recipes/seed.yaml")
    expected = {name: fields | recipe.get(name, {}) for name, fields in before.items()}
    assert yaml.safe_load(params.read_text()) == expected
    assert expected["train"]["epochs"] == 25
    assert params.read_text().startswith("# Every knob")


def test_the_seeds_recipe_names_every_field_of_training_but_the_machines() -> None:
    recipe = yaml.safe_load((ROOT / "recipes/seed.yaml").read_text())
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(params["train"]) - set(recipe["train"]) == {"seed", "threads", "processes"}
    assert set(params["augment"]) - set(recipe["augment"]) == {"seed"}


@pytest.mark.parametrize("shipped", ["params.yaml", "profiles/mura.yaml"])
def test_what_is_shipped_follows_the_strong_recipe(shipped: str) -> None:
    recipe = yaml.safe_load((ROOT / "recipes/strong.yaml").read_text())
    params = yaml.safe_load((ROOT / shipped).read_text())
    for section, fields in recipe.items():
        assert {name: params[section][name] for name in fields} == fields
    of_the_data = {"epochs", "batch_size", "learning_rate", "plateau_patience", "plateau_factor"}
    assert set(params["train"]) - set(recipe["train"]) - of_the_data == {
        "seed",
        "threads",
        "processes",
    }


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("train: {epochs: -1}", "train.epochs = -1"),
        ("train: {epoch: 3}", "train.epoch is not a known parameter"),
        ("training: {epochs: 3}", "unknown section 'training'"),
        ("train: 3", "section 'train' holds 3"),
        ("[]", "holds a list"),
    ],
)
def test_a_recipe_that_no_step_would_take_changes_nothing(
    params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str, message: str
) -> None:
    before = params.read_bytes()
    (tmp_path / "recipe.yaml").write_text(recipe)
    with pytest.raises(SystemExit, match="1"):
        apply(params, tmp_path / "recipe.yaml")
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert params.read_bytes() == before
