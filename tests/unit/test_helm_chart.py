"""The Helm chart: what is rendered is valid and consistent in itself, and its commands and settings exist."""

from __future__ import annotations

import copy
import functools
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dagster._cli import create_dagster_cli
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_webserver.cli import dagster_webserver
from pydantic import SecretStr

from deploy.helm.render import CHART, RENDERED, hash_sources, list_value_sets, read_hash, render
from jobs.cli.__main__ import headrace
from resources.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
VALUE_SETS = list_value_sets()
NAMES = [path.stem for path in VALUE_SETS]
# Of other programs.
FOREIGN_VARIABLES = {"DAGSTER_DAEMON_HEARTBEAT_TOLERANCE", "POD_NAME"}
# Kinds of Prometheus' operator, whose schemas Kubernetes does not have.
FOREIGN_KINDS = {"ServiceMonitor"}
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())

Manifest = dict[str, Any]

PROGRAMS: dict[str, Callable[[], click.Command]] = {
    "headrace": lambda: headrace,
    "dagster": create_dagster_cli,
    "dagster-daemon": create_dagster_daemon_cli,
    "dagster-webserver": lambda: dagster_webserver,
}


@functools.cache
def read(name: str) -> list[Manifest]:
    documents = yaml.safe_load_all((RENDERED / f"{name}.yaml").read_text())
    return [document for document in documents if document is not None]


def find(name: str, *kinds: str) -> list[Manifest]:
    return [manifest for manifest in read(name) if manifest["kind"] in kinds]


def find_pods(name: str) -> Iterator[tuple[str, Manifest]]:
    """The pods that are started, with their component."""
    for owner in find(name, "StatefulSet", "Deployment", "Job"):
        pod = owner["spec"]["template"]
        yield pod["metadata"]["labels"]["component"], pod


def find_containers(name: str) -> Iterator[tuple[Manifest, Manifest]]:
    for _, pod in find_pods(name):
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield pod, container


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def merge(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(values))
    for key, value in over.items():
        merged[key] = merge(merged[key], value) if isinstance(value, dict) and merged.get(key) else value
    return merged


@pytest.mark.parametrize("value_set", VALUE_SETS, ids=NAMES)
def test_what_is_rendered_is_of_the_present_chart(value_set: Path) -> None:
    assert read_hash(RENDERED / value_set.name) == hash_sources(value_set), "call `make chart`, with helm on the path"
    assert {path.name for path in RENDERED.iterdir()} == {path.name for path in VALUE_SETS}


@pytest.mark.skipif(shutil.which("helm") is None, reason="needs helm")
@pytest.mark.parametrize("value_set", VALUE_SETS, ids=NAMES)
def test_what_is_rendered_is_what_helm_renders(value_set: Path) -> None:
    assert render(value_set) == (RENDERED / value_set.name).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_each_manifest_is_valid_for_the_oldest_and_the_newest_kubernetes(name: str) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    oldest = re.fullmatch(r">=(\d+\.\d+)\.0-0", chart["kubeVersion"])
    assert oldest is not None
    for manifest in read(name):
        if manifest["kind"] not in FOREIGN_KINDS:
            for version in (oldest.group(1), kubernetes_validate.latest_version()):
                kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_exists_and_is_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [data] = [each["data"] for each in find(name, "ConfigMap") if each["metadata"]["name"].endswith("-settings")]
    fields = Settings.model_fields
    known = {str(field.validation_alias or f"HEADRACE_{each.upper()}"): field for each, field in fields.items()}
    given = {variable["name"] for _, container in find_containers(name) for variable in container.get("env", [])}
    assert data.keys() | given <= known.keys() | FOREIGN_VARIABLES
    secret = {each for each, field in known.items() if field.annotation is SecretStr or not field.repr}
    assert not secret - {"HEADRACE_SPARK_CONF"} & data.keys()
    for variable, value in data.items():
        monkeypatch.setenv(variable, value)
    load_settings.cache_clear()
    settings = load_settings()
    load_settings.cache_clear()
    assert settings.is_on_cluster is (name == "executors")
    # What the platform's pod needs for a clean stop: deploy/code_server.py waits that long for its streams.
    [code] = [pod for component, pod in find_pods(name) if component == "code"]
    assert settings.stop_grace_seconds <= 75 < 90 <= code["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", NAMES)
def test_each_command_exists(name: str) -> None:
    for _, container in find_containers(name):
        check_command(container["args"])
        assert "command" not in container  # it would replace what an image begins with
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            check_probe(container, container.get(probe))
    used = {container["name"] for _, container in find_containers(name)}
    assert {"code", "daemon", "webserver", "migrate"} <= used


def check_command(words: list[str]) -> None:
    """Has the program's own parser read the words, with the files of this project in the place of the image's."""
    copies = re.findall(r"^COPY (deploy/.+\.py) (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    if words[0] == "python":
        [source] = [each for names, target in copies for each in names.split() if target + Path(each).name == words[1]]
        assert (ROOT / source).exists()
        return
    command = PROGRAMS[words[0]]()
    assert entry_points(group="console_scripts", name=words[0])
    rest = [word.replace("/opt/headrace/dagster/", f"{ROOT}/deploy/") for word in words[1:]]
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    command.make_context(words[0], rest)


def check_probe(container: Manifest, probe: Manifest | None) -> None:
    if probe is None:
        return
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    if "exec" in probe:
        check_command(probe["exec"]["command"])
    elif "grpc" in probe:
        assert probe["grpc"]["port"] in ports.values()
    else:
        assert probe["httpGet"]["port"] in ports
    assert probe["timeoutSeconds"] > 1


@pytest.mark.parametrize("name", NAMES)
def test_each_container_has_limits_and_no_more_rights_than_it_needs(name: str) -> None:
    for pod, container in find_containers(name):
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] and security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert f"--uid {security['runAsUser']} " in (ROOT / "deploy" / "Dockerfile").read_text()
        asks = pod["spec"]["automountServiceAccountToken"]
        assert asks is (name == "executors" and pod["metadata"]["labels"]["component"] == "code")
        for variable in container.get("env", []):  # all that runs in a container has its environment
            assert "PASSWORD" not in variable["name"] and "secretKeyRef" not in variable.get("valueFrom", {})
    kinds = {manifest["kind"] for manifest in read(name)}
    assert not kinds & {"Secret", "ClusterRole", "ClusterRoleBinding"}
    assert [rule["verbs"] for role in find(name, "Role") for rule in role["rules"] if "*" in rule["verbs"]] == []
    assert ("Role" in kinds) is (name == "executors")


@pytest.mark.parametrize("name", NAMES)
def test_selectors_match_pods_and_each_pod_has_one_policy(name: str) -> None:
    pods = [pod["metadata"]["labels"] for _, pod in find_pods(name)]
    for owner in find(name, "StatefulSet", "Deployment"):
        selector, own = owner["spec"]["selector"], owner["spec"]["template"]["metadata"]["labels"]
        assert [labels for labels in pods if matches(selector, labels)] == [own]
    for budget in find(name, "PodDisruptionBudget"):
        assert len([labels for labels in pods if matches(budget["spec"]["selector"], labels)]) == 1
    for service in find(name, "Service"):
        selected = [
            pod
            for _, pod in find_pods(name)
            if matches({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])
        ]
        assert len(selected) == 1
        ports = {port["name"] for each in selected[0]["spec"]["containers"] for port in each.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    policies = find(name, "NetworkPolicy")
    for labels in pods:
        [policy] = [each for each in policies if matches(each["spec"]["podSelector"], labels)]
        assert sorted(policy["spec"]["policyTypes"]) == ["Egress", "Ingress"]
    for policy in policies:
        for rule in policy["spec"]["ingress"]:
            assert rule["from"] and rule["ports"]  # an empty list would let everybody in


@pytest.mark.parametrize("name", NAMES)
def test_what_is_mounted_is_there(name: str) -> None:
    maps = {each["metadata"]["name"]: each["data"] for each in find(name, "ConfigMap")}
    accounts = {each["metadata"]["name"] for each in find(name, "ServiceAccount")}
    claims = {
        claim["metadata"]["name"]
        for each in find(name, "StatefulSet")
        for claim in each["spec"]["volumeClaimTemplates"]
    }
    for pod, container in find_containers(name):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert pod["spec"].get("serviceAccountName", next(iter(accounts))) in accounts
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes.keys() | claims
            if "subPath" in mount:
                assert mount["subPath"] in maps[volumes[mount["name"]]["configMap"]["name"]]
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] in maps
    [code] = [each for each in find(name, "Service") if each["spec"].get("clusterIP") == "None"]
    workspace = yaml.safe_load(next(data["workspace.yaml"] for data in maps.values() if "workspace.yaml" in data))
    compose = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text())
    compose["load_from"][0]["grpc_server"] |= {"host": code["metadata"]["name"], "port": 4000}
    assert workspace == compose


@pytest.mark.parametrize("name", NAMES)
def test_the_instance_is_that_of_the_container_stack_with_another_database(name: str) -> None:
    [values] = [yaml.safe_load(path.read_text()) for path in VALUE_SETS if path.stem == name]
    stack = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    database = merge(VALUES, values)["postgresql"]
    config = stack["storage"]["custom"]["config"]
    config["password_file"] = "/run/secrets/postgresql/postgresql-password"
    config["postgres_db"] |= {
        "hostname": database["postgresqlHost"], "port": database["service"]["port"],
        "username": database["postgresqlUsername"], "db_name": database["postgresqlDatabase"],
    }  # fmt: skip
    texts = [each["data"]["dagster.yaml"] for each in find(name, "ConfigMap") if "dagster.yaml" in each["data"]]
    assert len(texts) == 2 and all(yaml.safe_load(text) == stack for text in texts)
    folder, _, file = config["password_file"].rpartition("/")
    for pod, container in find_containers(name):
        [mount] = [each["name"] for each in container["volumeMounts"] if each["mountPath"] == folder]
        [secret] = [each["secret"] for each in pod["spec"]["volumes"] if each["name"] == mount]
        assert secret["secretName"] == merge(VALUES, values)["global"]["postgresqlSecretName"]
        assert [item["path"] for item in secret["items"]] == [file]


@pytest.mark.parametrize("name", NAMES)
def test_the_daemons_silence_is_noticed_as_soon_as_in_the_container_stack(name: str) -> None:
    variable = "DAGSTER_DAEMON_HEARTBEAT_TOLERANCE"
    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["daemon"]["environment"]
    [daemon] = [container for _, container in find_containers(name) if container["name"] == "daemon"]
    assert [each["value"] for each in daemon["env"] if each["name"] == variable] == [stack[variable]]


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_that_never_becomes_ready_does_not_keep_a_roll_back_waiting(name: str) -> None:
    [code] = find(name, "StatefulSet")
    assert code["spec"]["podManagementPolicy"] == "Parallel" and code["spec"]["replicas"] == 1


def render_with(tmp_path: Path, over: dict[str, Any]) -> str:
    """What helm makes of the smallest value set with other values, or its error."""
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(merge(yaml.safe_load((CHART / "ci" / "local.yaml").read_text()), over)))
    command = ["helm", "template", "headrace", str(CHART), "--values", str(values)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else done.stdout


@pytest.mark.skipif(shutil.which("helm") is None, reason="needs helm")
def test_numbers_reach_the_platform_as_they_are_written(tmp_path: Path) -> None:
    settings = {
        "HEADRACE_MAX_OFFSETS_PER_TRIGGER": 5_000_000, "HEADRACE_MAX_RECORD_BYTES": 10_485_761,
        "HEADRACE_TRIGGER_SECONDS": 0.25, "HEADRACE_PUBLISH": False, "HEADRACE_UPKEEP_SECONDS": 60,
    }  # fmt: skip
    text = render_with(tmp_path, {"settings": settings})
    for name, value in settings.items():
        assert f'{name}: "{str(value).lower()}"' in text


@pytest.mark.skipif(shutil.which("helm") is None, reason="needs helm")
@pytest.mark.parametrize(
    ("setting", "port"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "a.test:9092, b.test:19092"}, 19092),
        ({"HEADRACE_SCHEMA_REGISTRY_URL": "http://registry.test:8081"}, 8081),
        ({"HEADRACE_SCHEMA_REGISTRY_URL": "https://registry.test,http://other.test/apis"}, 80),
        ({"HEADRACE_OPENLINEAGE_URL": "http://marquez.test:5000/"}, 5000),
    ],
)
def test_an_address_behind_a_port_that_is_closed_is_refused(tmp_path: Path, setting: dict[str, str], port: int) -> None:
    said = f"settings.{next(iter(setting))} names port {port}, which networkPolicy.egressPorts does not have"
    assert said in render_with(tmp_path, {"settings": setting})
    for policy in ({"egressPorts": [443, 9092, port]}, {"enabled": False}):
        assert "kind: StatefulSet" in render_with(tmp_path, {"settings": setting, "networkPolicy": policy})


@pytest.mark.parametrize("value_set", VALUE_SETS, ids=NAMES)
def test_values_fit_their_schema(value_set: Path) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(merge(VALUES, yaml.safe_load(value_set.read_text())), SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    "wrong",
    [
        {"settings": {"HEADRACE_KAFKA_CONFIG": "{}"}},
        {"settings": {"HEADRACE_STORAGE_OPTIONS": '{"aws_secret_access_key": "x"}'}},
        {"settings": {"POSTGRES_PASSWORD": "x"}},
        {"code": {"terminationGracePeriodSeconds": 30}},
        {"code": {"replicas": 2}},
        {"lakehouse": {"root": "s3://key:secret@lake/shop"}},
        {"spark": {"mode": "yarn"}},
        {"networkPolicy": {"webserverFrom": [{}]}},
        {"dagsterDaemon": {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}}},
        {"typing": "error"},
    ],
)  # fmt: skip
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    # Lists and `resources` are replaced as a whole in one of the cases.
    values = VALUES | wrong if "dagsterDaemon" in wrong else merge(VALUES, wrong)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA, jsonschema.Draft7Validator)


def test_secrets_that_the_schema_refuses_are_those_of_the_settings() -> None:
    refused = set(SCHEMA["properties"]["settings"]["propertyNames"]["not"]["enum"])
    fields = Settings.model_fields.items()
    assert {
        f"HEADRACE_{n.upper()}" for n, field in fields if field.annotation is SecretStr or not field.repr
    } <= refused
