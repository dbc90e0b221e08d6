"""The container stack, read as data: what a review would look for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.supervision.dagster_home import render_dagster_yaml
from resources.registry_configuration import API_PATH
from resources.settings import Settings

_ROOT = Path(__file__).parents[2]
_COMPOSE: dict[str, Any] = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())
_SERVICES: dict[str, dict[str, Any]] = _COMPOSE["services"]


def _runs_once(service: dict[str, Any]) -> bool:
    return service.get("restart") == "no"


@pytest.mark.parametrize("name", _SERVICES)
def test_service_is_pinned_watched_and_given_time_to_stop(name: str) -> None:
    service = _SERVICES[name]
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"])
    if not _runs_once(service):
        assert service["healthcheck"]["test"]
        assert service["stop_grace_period"] == "90s"
        assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", _SERVICES)
def test_service_waits_for_the_health_of_what_it_needs(name: str) -> None:
    for needed, dependency in _SERVICES[name].get("depends_on", {}).items():
        expected = "service_completed_successfully" if _runs_once(_SERVICES[needed]) else "service_healthy"
        assert dependency["condition"] == expected


def test_ports_are_published_on_the_loopback_interface_only() -> None:
    ports = [port for service in _SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_stands_in_clear() -> None:
    for service in _SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|_CONFIG$", key):
                assert value.startswith("${")
            if "PASSWORD" in key:
                assert ":?" in value  # absent: one clear message and no start
    example = (_ROOT / "deploy" / ".env.example").read_text()
    assert "\nPOSTGRES_PASSWORD=\n" in example


def test_named_volumes_are_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in _SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(_COMPOSE["volumes"])


def test_broker_is_the_version_that_the_tests_run() -> None:
    jars = tomllib.loads((_ROOT / "resources" / "jars.toml").read_text())
    embedded = jars["broker"]["resolutions"][0][0].rpartition(":")[2]
    assert _SERVICES["kafka"]["image"] == f"apache/kafka:{embedded}"


def test_registry_is_the_version_that_the_tests_run() -> None:
    jars = tomllib.loads((_ROOT / "resources" / "jars.toml").read_text())
    embedded = jars["registry"]["without_dependencies"][0].split(":")[2]
    registry = _SERVICES["registry"]
    assert registry["image"] == f"apicurio/apicurio-registry:{embedded}"
    assert registry["environment"]["APICURIO_RULES_GLOBAL_COMPATIBILITY"] == "BACKWARD"
    used = _SERVICES["code"]["environment"]["HEADRACE_SCHEMA_REGISTRY_URL"]
    assert f"http://registry:8080{API_PATH}" in used


def test_topic_of_the_stack_is_the_topic_of_the_settings() -> None:
    settings = Settings(kafka_bootstrap_servers="")
    command = _SERVICES["topics"]["command"]
    assert f"--topic={settings.topic}" in command
    assert f"--partitions={settings.topic_partitions}" in command


def test_instance_is_the_local_one_with_postgres() -> None:
    deployed = yaml.safe_load((_ROOT / "deploy" / "dagster.yaml").read_text())
    password = deployed.pop("storage")["postgres"]["postgres_db"]["password"]
    assert password == {"env": "POSTGRES_PASSWORD"}
    assert deployed == yaml.safe_load(render_dagster_yaml(Settings(kafka_bootstrap_servers="")))


def test_workspaces_and_project_name_the_same_code_location() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["dagster"]
    local = yaml.safe_load((_ROOT / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    deployed = yaml.safe_load((_ROOT / "deploy" / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    assert local["module_name"] == project["module_name"]
    assert local["location_name"] == deployed["location_name"] == project["code_location_name"]
    assert deployed["host"] in _SERVICES


@pytest.mark.parametrize("name", ["requirements.lock", "deploy/requirements.lock"])
def test_lock_has_a_hash_for_every_package_and_no_address(name: str) -> None:
    text = (_ROOT / name).read_text()
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert len(requirements) > 50
    assert all("==" in one and "--hash=sha256:" in one for one in requirements)
    assert "://" not in text
    assert not re.search(r"^\s*--(index|find|extra)", text, re.MULTILINE)


def test_recipes_that_start_programs_replace_the_shell() -> None:
    """A SIGTERM to make would leave the program behind without `exec`."""
    makefile = (_ROOT / "Makefile").read_text()
    assert "exec $(BIN)/" in re.findall(r"^RUN = .*$", makefile, re.MULTILINE)[0]
    for target in ("demo", "dev", "up", "drain", "check", "simulate"):
        assert re.search(rf"^{target}:.*\n\t\$\(RUN\)headrace {target} \$\(ARGS\)$", makefile, re.MULTILINE)
