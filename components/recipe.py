"""`python -m components.recipe`: put a recipe's fields into params.yaml.

A recipe is data: some fields of params.yaml, under their sections. What it does not name stays.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bonexray.artifacts import whole_file
from bonexray.command import run_or_exit
from bonexray.config import SECTIONS, read_params, read_section
from bonexray.errors import ConfigError


def change_params(params: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Set fields of params.yaml; comments and order stay, and it is written whole or not at all.

    Args:
        params: params.yaml.
        changes: section -> field -> value.

    Raises:
        ConfigError: a section, a field or a value is not one that a step would take.
    """
    layout = YAML()
    layout.preserve_quotes = True
    layout.width = 4096
    for section, fields in read_params(params).items():
        if not isinstance(fields, dict):
            raise ConfigError(f"{params}: section {section!r} holds {fields!r}, expected fields")
    document = layout.load(params.read_text(encoding="utf-8"))
    for section, fields in changes.items():
        for name, value in fields.items():
            document.setdefault(section, {})[name] = value
    with whole_file(params) as partial:
        with partial.open("w", encoding="utf-8") as file:
            layout.dump(document, file)
        try:
            for section in changes:
                read_section(str(partial), SECTIONS[section])
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(partial), str(params))) from error


def read_recipe(path: Path) -> dict[str, dict[str, Any]]:
    """Read a recipe. Raises ConfigError when it is not sections of fields."""
    recipe = read_params(path)
    for section, fields in recipe.items():
        if not isinstance(fields, dict):
            raise ConfigError(f"{path}: section {section!r} holds {fields!r}, expected fields")
    return recipe


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m components.recipe", description="Put a recipe's fields into params.yaml."
    )
    parser.add_argument("recipe", type=Path, help="a file of recipes/")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)

    def run() -> None:
        recipe = read_recipe(args.recipe)
        change_params(args.params, recipe)
        print(f"recipe: {args.params} now follows {args.recipe}; `dvc params diff` shows how")

    run_or_exit("recipe", run)


if __name__ == "__main__":
    main()
