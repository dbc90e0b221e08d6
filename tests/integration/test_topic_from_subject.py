"""`headrace new-topic --subject` against a real registry, in a copy of the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.registry.schema_registry import SchemaRegistry
from resources.registry.schemas import SchemaReference
from tests.copied_project import copy_project

ROOT = Path(__file__).parents[2]
_PLACE = {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "string"}]}
_ORDER = {"type": "record", "name": "Order", "fields": [
    {"name": "id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "place", "type": "Place"},
]}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project", "tests", "pyproject.toml")


def test_the_newest_version_of_a_subject_becomes_a_topic(
    schema_registry: SchemaRegistry, subject: Callable[..., str], project: Path
) -> None:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ, "PYTHONPATH": str(project), "HEADRACE_HOME": str(project / "home"),
            "HEADRACE_SCHEMA_REGISTRY_URL": schema_registry.access.urls[0],
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, check=False
        )

    place, order = subject("place"), subject("shop.order")
    schema_registry.register(place, "avro", json.dumps(_PLACE))
    references = [SchemaReference("Place", place, 1)]
    old = {**_ORDER, "fields": _ORDER["fields"][:2]}
    schema_registry.register(f"{order}-value", "avro", json.dumps(old), compatibility="NONE")
    schema_registry.register(f"{order}-value", "avro", json.dumps(_ORDER), references)
    schema_registry.register(order, "avro", json.dumps(_ORDER), references)

    done = run("-m", "jobs.cli", "new-topic", "of_topic_for_tests", "--subject", f"{order}-value")
    assert done.returncode == 0, done.stderr
    assert f"version 2 of {order}-value is a schema in Avro, of Order." in done.stdout
    text = (project / "platform_assets/topics/of_topic_for_tests.py").read_text()
    assert "place: Annotated[Place," in text and "values=RegistryValues()," in text
    assert f'kafka_topic="{order}"' in text

    done = run("-m", "jobs.cli", "new-topic", "of_subject_for_tests", "--subject", order)
    assert done.returncode == 0, done.stderr
    text = (project / "platform_assets/topics/of_subject_for_tests.py").read_text()
    assert f'values=RegistryValues(subjects=("{order}",))' in text and 'kafka_topic="of-subject-for-tests"' in text

    tests = [f"tests/unit/test_topic_{name}_for_tests.py" for name in ("of_topic", "of_subject")]
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout
    done = run("-m", "jobs.cli", "check-contract", "of_topic_for_tests", "of_subject_for_tests")
    assert "of_subject_for_tests: the contract reads all versions." in done.stdout
    # The first version has no place, and the contract requires it.
    assert done.returncode == 1 and "place is missing" in done.stdout

    done = run("-m", "jobs.cli", "new-topic", "of_nobody_for_tests", "--subject", "nobody-value")
    assert done.returncode == 1 and "has no subject nobody-value." in done.stderr
    assert not list(project.glob("*/*/*of_nobody*"))
