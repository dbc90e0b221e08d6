"""What a Spark master on other machines asks of the other settings, and what Spark is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from platform_assets.errors import SettingError
from resources.settings import Settings, load_settings
from resources.spark.configuration import spark_conf

MASTERS = ("spark://head:7077", "k8s://https://host:443", "yarn")
KAFKA = "broker:9092"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> pytest.MonkeyPatch:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "ENDPOINT_URL", "REGION", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", KAFKA)
    return monkeypatch


def load(environment: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        environment.setenv(f"HEADRACE_{name}", value)
    load_settings.cache_clear()
    return load_settings()


@pytest.mark.parametrize("master", MASTERS)
@pytest.mark.parametrize("root", ["", "/data/lake", "file:///data/lake"])
def test_a_folder_of_this_machine_is_refused_unless_it_is_shared(
    master: str, root: str, environment: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingError, match=r"HEADRACE_LAKEHOUSE: .* HEADRACE_LAKEHOUSE_IS_SHARED=true"):
        load(environment, SPARK_MASTER=master, LAKEHOUSE=root)
    assert load(environment, LAKEHOUSE_IS_SHARED="true").is_on_cluster


@pytest.mark.parametrize("master", ["local[4]", "local[*]", "local-cluster[2,1,1024]"])
def test_a_folder_of_this_machine_is_taken_where_all_runs_on_it(master: str, environment: pytest.MonkeyPatch) -> None:
    assert not load(environment, SPARK_MASTER=master, LAKEHOUSE="/data/lake").is_on_cluster


def test_an_object_store_is_taken(environment: pytest.MonkeyPatch) -> None:
    assert load(environment, SPARK_MASTER=MASTERS[0], LAKEHOUSE="s3a://lake/x").is_on_cluster


def test_the_embedded_broker_is_refused_for_executors_elsewhere(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("KAFKA_BOOTSTRAP_SERVERS")
    with pytest.raises(SettingError, match=r"HEADRACE_SPARK_MASTER: .* KAFKA_BOOTSTRAP_SERVERS"):
        load(environment, SPARK_MASTER=MASTERS[0], LAKEHOUSE="s3://lake/x")
    assert load(environment, SPARK_MASTER="spark://127.0.0.1:7077").uses_embedded_broker


def test_the_account_of_the_environment_goes_with_the_tasks(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", "key")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    options = load(environment, SPARK_MASTER=MASTERS[0], LAKEHOUSE="s3://lake/x").storage_options
    assert options == {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    own = '{"access_key_id": "other", "secret_access_key": "s", "endpoint": "http://store"}'
    environment.setenv("AWS_SESSION_TOKEN", "token")
    environment.setenv("AWS_ENDPOINT_URL", "http://elsewhere")
    options = load(environment, STORAGE_OPTIONS=own).storage_options
    assert options == {"access_key_id": "other", "secret_access_key": "s", "endpoint": "http://store"}


def build_conf(**settings: object) -> dict[str, str]:
    values = {"kafka_bootstrap_servers": KAFKA, "spark_master": MASTERS[0], "lakehouse": "s3://lake/x", **settings}
    return spark_conf(Settings.model_validate(values), [Path("/jars/a.jar")])


def test_spark_is_told_how_many_executors_and_where_the_driver_is() -> None:
    conf = build_conf(executors=3, executor_cores=4, driver_host="10.0.0.7", driver_port=7001)
    assert (conf["spark.executor.instances"], conf["spark.executor.cores"], conf["spark.cores.max"]) == ("3", "4", "12")
    assert conf["spark.sql.shuffle.partitions"] == "12"
    assert (conf["spark.driver.host"], conf["spark.driver.bindAddress"]) == ("10.0.0.7", "10.0.0.7")
    assert conf["spark.driver.port"] == "7001"
    assert "spark.driver.blockManager.port" not in conf, "any free one"
    assert conf["spark.dynamicAllocation.enabled"] == "false"


def test_no_path_of_the_driver_is_sent_to_executors(tmp_path: Path) -> None:
    conf = build_conf(home=tmp_path, spark_conf={"spark.executor.extraJavaOptions": "-Da=b"})
    assert conf["spark.executor.extraJavaOptions"] == "-Duser.timezone=UTC -XX:+ExitOnOutOfMemoryError -Da=b"
    of_executors = {key: value for key, value in conf.items() if key.startswith("spark.executor")}
    assert str(tmp_path) not in str(of_executors) and "spark.local.dir" not in conf
