"""docker-compose.yml as Compose reads it: variables put in, and the services of the chosen profiles."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROFILES = ("kafka", "registry", "confluent", "object-store", "watching")
# The forms that the file uses; `docker compose` knows more.
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::-(?P<default>[^${}]*))?\})")


def resolve(variables: Mapping[str, str], file: Path = ROOT / "docker-compose.yml") -> dict[str, Any]:
    """The file with these variables (`.env` and the shell's), COMPOSE_PROFILES among them.

    A variable of a service's environment without a value is passed on, or left out where nobody has set it.
    """
    content: dict[str, Any] = _interpolate(_read(file), variables)
    chosen = set(variables.get("COMPOSE_PROFILES", "").split(","))
    services = {}
    for name, service in content["services"].items():
        if set(service.get("profiles", chosen)) & chosen:
            environment = service.get("environment", {})
            passed = {key: variables.get(key) if value is None else value for key, value in environment.items()}
            environment = {key: value for key, value in passed.items() if value is not None}
            services[name] = service | ({"environment": environment} if environment else {})
    return content | {"services": services}


@functools.cache
def _read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def _interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolate(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    assert "$" not in _VARIABLE.sub("", value), f"{value}: a form of variable that is not known here"
    return _VARIABLE.sub(
        lambda found: "$" if found["dollar"] else variables.get(found["name"], "") or found["default"] or "", value
    )
