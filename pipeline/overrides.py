"""`--set section.field=value`: a run with other settings than params.yaml has."""

import copy
import json
from collections.abc import Sequence
from typing import Any

import yaml

from bonexray.config import SECTIONS, read_section
from bonexray.errors import ConfigError


def override(params: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Apply changes and check what comes of them.

    Args:
        params: params.yaml as read.
        changes: `section.field=value` each, the value as YAML has it.

    Raises:
        ConfigError: there is no such field, or a step would refuse the value.
    """
    changed = copy.deepcopy(params)
    for change in changes:
        name, separator, text = change.partition("=")
        keys = name.split(".")
        if not separator or len(keys) < 2:
            raise ConfigError(f"--set {change!r}, expected SECTION.FIELD=VALUE")
        _known(keys, changed, name)[keys[-1]] = _value(text, name)
    for section in {change.partition(".")[0] for change in changes}:
        checked = read_section(_json(changed[section], section), SECTIONS[section])
        changed[section] = checked.model_dump(mode="json", exclude_none=True)
    return changed


def _json(fields: Any, section: str) -> str:
    try:
        return json.dumps(fields)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {section}: holds what is no plain value: {error}") from error


def _known(keys: list[str], params: dict[str, Any], name: str) -> dict[str, Any]:
    """The mapping that holds the last key, which must be there."""
    at: Any = params
    for depth, key in enumerate(keys):
        if not isinstance(at, dict) or key not in at:
            within = ".".join(keys[:depth]) or "params.yaml"
            if not isinstance(at, dict) or not at:  # node_selector, say: a map of anybody's keys
                raise ConfigError(f"--set {name}: {within} is set as a whole: {within}=VALUE")
            known = ", ".join(at)
            raise ConfigError(f"--set {name}: {within} has no {key!r}, expected one of {known}")
        holder, at = at, at[key]
    found: dict[str, Any] = holder
    return found


def _value(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {name}={text}: the value is no YAML") from error
