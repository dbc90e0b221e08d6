"""Settings become Spark configuration; the user has the last word."""

from __future__ import annotations

import re
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from platform_assets.errors import SettingError
from resources.jars import spark_jars
from resources.settings import Settings
from resources.spark import configuration
from resources.spark.configuration import for_minutes, is_secret, spark_conf


def _conf(tmp_path: Path, **settings: object) -> dict[str, str]:
    values = {"home": tmp_path, "kafka_bootstrap_servers": "", **settings}
    return spark_conf(Settings.model_validate(values), [Path("/jars/a.jar"), Path("/jars/b.jar")])


def test_local_application_is_bounded_private_and_in_utc(tmp_path: Path) -> None:
    conf = _conf(tmp_path, spark_heap_mib=700, state_memory_mib=64)
    assert conf["spark.jars"] == "file:///jars/a.jar,file:///jars/b.jar"
    assert conf["spark.driver.memory"] == "700m"
    assert conf["spark.sql.streaming.stateStore.rocksdb.boundedMemoryUsage"] == "true"
    assert conf["spark.sql.streaming.stateStore.rocksdb.maxMemoryUsageMB"] == "64"
    assert conf["spark.driver.bindAddress"] == "127.0.0.1"
    assert conf["spark.sql.session.timeZone"] == "UTC"
    assert "-Duser.timezone=UTC" in conf["spark.driver.extraJavaOptions"]
    assert all(isinstance(value, str) for value in conf.values())


def test_only_files_of_this_machine_are_renamed_without_a_process_for_each_step(tmp_path: Path) -> None:
    name = "spark.sql.streaming.checkpointFileManagerClass"
    shipped = Path(str(find_spec("pyspark").submodule_search_locations[0])) / "jars"  # type: ignore[union-attr,index]
    with zipfile.ZipFile(next(shipped.glob("spark-sql_*.jar"))) as jar:
        assert f"{_conf(tmp_path)[name].replace('.', '/')}.class" in jar.namelist()
    assert name not in _conf(tmp_path, lakehouse="hdfs://lake/shop")
    cluster = {"spark_master": "spark://host:7077", "kafka_bootstrap_servers": "host:9092"}
    assert name not in _conf(tmp_path, lakehouse="/mnt/lake", lakehouse_is_shared=True, **cluster)


def test_nothing_is_resolved_from_the_network(tmp_path: Path) -> None:
    assert not any(key.startswith(("spark.jars.packages", "spark.jars.ivy")) for key in _conf(tmp_path))


def test_user_configuration_wins(tmp_path: Path) -> None:
    conf = _conf(tmp_path, spark_conf={"spark.sql.shuffle.partitions": "7", "spark.ui.enabled": "true", "my.own": "x"})
    assert conf["spark.sql.shuffle.partitions"] == "7"
    assert conf["spark.ui.enabled"] == "true"
    assert conf["my.own"] == "x"


def test_users_java_options_come_after_ours_and_replace_none(tmp_path: Path) -> None:
    conf = _conf(tmp_path, spark_conf={"spark.driver.extraJavaOptions": "-XX:+UseG1GC"})
    options = conf["spark.driver.extraJavaOptions"].split()
    assert [option for option in options if option.endswith("GC")] == ["-XX:+UseG1GC"] == options[-1:]
    assert "-Duser.timezone=UTC" in options


def test_a_jvm_for_minutes_has_room_for_the_code_of_all_streams(tmp_path: Path) -> None:
    options = for_minutes({"spark.driver.extraJavaOptions": "-Da=b"})["spark.driver.extraJavaOptions"].split()
    assert options == ["-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=240m", "-Da=b"]


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("spark.hadoop.fs.s3a.secret.key", True),
        ("spark.hadoop.fs.s3a.access.key", True),
        ("spark.ssl.keyPassword", True),
        ("spark.hadoop.fs.azure.account.key.shop.dfs.core.windows.net", True),
        ("spark.hadoop.fs.azure.sas.fixed.token.shop", True),
        ("spark.hadoop.fs.azure.sas.box.shop.blob.core.windows.net", True),
        ("spark.hadoop.fs.azure.account.oauth2.client.secret", True),
        ("spark.hadoop.fs.gs.auth.service.account.private.key", True),
        ("spark.hadoop.fs.gs.auth.service.account.private.key.id", True),
        ("spark.hadoop.fs.s3a.encryption.key", True),
        ("spark.hadoop.fs.s3a.session.token", True),
        ("my.accountKey", True),
        ("spark.hadoop.hadoop.security.credential.provider.path", True),
        ("spark.kafka.sasl.jaas.config", True),
        ("spark.mysql.passwd", True),
        ("spark.sql.shuffle.partitions", False),
        ("spark.driver.extraJavaOptions", False),
        ("spark.driver.memory", False),
        ("spark.jars", False),
        ("spark.master", False),
    ],
)
def test_secrets_are_known_by_their_key(key: str, secret: bool) -> None:
    assert is_secret(key) is secret
    assert bool(re.search(_conf(Path("/any"))["spark.redaction.regex"], key)) is secret  # in UI, plans and event files


def test_nothing_of_ours_is_held_back_from_the_command_line(tmp_path: Path) -> None:
    assert [key for key in _conf(tmp_path) if is_secret(key)] == []


def test_a_secret_among_the_java_options_is_refused_without_being_repeated(tmp_path: Path) -> None:
    options = {"spark.driver.extraJavaOptions": "-Dmy.zone=UTC -Djavax.net.ssl.trustStorePassword=s3cr3t"}
    with pytest.raises(SettingError, match=r"HEADRACE_SPARK_CONF: javax\.net\.ssl\.trustStorePassword") as refused:
        _conf(tmp_path, spark_conf=options)
    assert "s3cr3t" not in str(refused.value)


def test_settings_are_shown_without_the_keys_of_object_stores(tmp_path: Path) -> None:
    values = {"storage_options": {"aws_secret_access_key": "s3cr3t"}, "spark_conf": {"a.account.key": "s3cr3t"}}
    settings = Settings.model_validate({"home": tmp_path, "kafka_config": '{"sasl.password": "s3cr3t"}', **values})
    assert "s3cr3t" not in f"{settings!r} {settings}"


def test_every_silenced_logger_is_a_class_of_the_version_in_use() -> None:
    """A class that moved in an upgrade would be silenced no longer, and its reason would be read as current."""
    text = (Path(configuration.__file__).with_name("spark_log4j2.properties")).read_text()
    silenced = {name.replace(".", "/") + ".class" for name in re.findall(r"^logger\.\w+\.name = (\S+)$", text, re.M)}
    assert len(silenced) >= 5
    shipped = Path(str(find_spec("pyspark").submodule_search_locations[0])) / "jars"  # type: ignore[union-attr,index]
    jars = [*shipped.glob("spark-sql*.jar"), *shipped.glob("hadoop-client-api*.jar"), *spark_jars()]
    present = {name for jar in jars for name in zipfile.ZipFile(jar).namelist()}
    assert silenced <= present


def test_encryption_is_of_all_that_spark_sends_and_spills_and_its_secret_is_known_for_one(tmp_path: Path) -> None:
    assert not any("authenticate" in key or "crypt" in key for key in _conf(tmp_path))
    conf = _conf(tmp_path, spark_encrypt=True)
    for key in ("spark.authenticate", "spark.network.crypto.enabled", "spark.io.encryption.enabled"):
        assert conf[key] == "true"
    assert "spark.authenticate.secret" not in conf, "Spark makes one for each local application"
    secret = "0123456789abcdef"
    on_cluster = {
        "kafka_bootstrap_servers": "host:9092", "lakehouse": "s3://bucket/lake", "spark_master": "spark://host:7077",
    }  # fmt: skip
    conf = _conf(tmp_path, **on_cluster, spark_secret=secret, spark_encrypt=True)
    assert [key for key, value in conf.items() if value == secret and is_secret(key)] == ["spark.authenticate.secret"]
    assert secret not in repr(Settings.model_validate({**on_cluster, "spark_secret": secret}))
    for short in ("", secret[:-1]):
        with pytest.raises(ValueError, match="HEADRACE_SPARK_SECRET"):
            _conf(tmp_path, **on_cluster, spark_secret=short, spark_encrypt=True)
