"""One setting of an object store becomes what each library wants, and what they say of trouble one error."""

from __future__ import annotations

from pathlib import Path

import pytest

from platform_assets.errors import StorageError, StoreUnavailableError
from platform_assets.object_store import (
    arrow_options,
    delta_options,
    find_trouble,
    hadoop_conf,
    normalize_uri,
    polars_options,
)
from platform_assets.store_errors import find_store_error
from resources.settings import Settings
from resources.spark.configuration import is_secret, spark_conf

ROOT = "s3://bucket/lake"
OPTIONS = {
    "aws_endpoint_url": "http://127.0.0.1:8333/", "AWS_ACCESS_KEY_ID": "an id", "secret_access_key": "a secret",
    "timeout": "30s",
}  # fmt: skip
S3A = "spark.hadoop.fs.s3a"


@pytest.fixture(autouse=True)
def _no_account_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT_URL", "ENDPOINT", "REGION", "DEFAULT_REGION", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)


def test_delta_rs_commits_by_conditional_put_and_gets_what_it_was_given() -> None:
    assert delta_options(ROOT, OPTIONS) == {
        **OPTIONS, "aws_conditional_put": "etag", "aws_allow_http": "true", "aws_region": "us-east-1"
    }  # fmt: skip
    assert delta_options(ROOT, {"region": "eu-west-1"}) == {"region": "eu-west-1", "aws_conditional_put": "etag"}
    assert delta_options("/data/lake", OPTIONS) == OPTIONS
    assert delta_options("gs://bucket", {"a": "b"}) == {"a": "b"}


def test_spark_is_told_the_same_and_no_secret_stands_on_its_command_line() -> None:
    settings = Settings(home=Path("/home/x"), lakehouse=ROOT, storage_options=OPTIONS, kafka_bootstrap_servers="")
    conf = spark_conf(settings, [])
    wanted = {"endpoint": "http://127.0.0.1:8333/", "path.style.access": "true", "endpoint.region": "us-east-1"}
    assert {f"{S3A}.{key}": value for key, value in wanted.items()}.items() <= conf.items()
    assert conf["spark.hadoop.fs.s3.impl"] == "org.apache.hadoop.fs.s3a.S3AFileSystem"
    kept_back = {key: value for key, value in conf.items() if is_secret(key)}
    assert kept_back.keys() >= {f"{S3A}.access.key", f"{S3A}.secret.key"}
    assert "a secret" not in {value for key, value in conf.items() if key not in kept_back}
    own = settings.model_copy(update={"spark_conf": {f"{S3A}.endpoint": "https://other"}})
    assert spark_conf(own, [])[f"{S3A}.endpoint"] == "https://other"


def test_without_keys_each_library_looks_for_the_account_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://store.example")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an id")
    conf = hadoop_conf(ROOT, {})
    assert conf[f"{S3A}.endpoint"] == "https://store.example"
    # S3A reads that variable itself, at each request.
    assert not any("key" in name or "credentials" in name for name in conf)
    assert hadoop_conf(ROOT, {"token": "t"})[f"{S3A}.aws.credentials.provider"].endswith(
        ".TemporaryAWSCredentialsProvider"
    )


def test_arrow_is_told_the_same() -> None:
    found = arrow_options({**OPTIONS, "aws_virtual_hosted_style_request": "true"})
    assert {key: value for key, value in found.items() if isinstance(value, str)} == {
        "access_key": "an id", "secret_key": "a secret", "scheme": "http", "endpoint_override": "127.0.0.1:8333",
    }  # fmt: skip
    assert found["force_virtual_addressing"] is True


def test_polars_is_told_the_place_and_the_account_only() -> None:
    options = delta_options("s3://b/p", OPTIONS | {"max_retries": "2", "AWS_TIMEOUT": "5s"})
    assert polars_options(options).keys() == {*OPTIONS, "aws_allow_http", "aws_region"} - {"timeout"}
    assert polars_options({"google_service_account": "f"}) == {"google_service_account": "f"}


def test_other_stores_get_their_accounts() -> None:
    azure = hadoop_conf("abfss://c@store.dfs.core.windows.net/lake", {"azure_storage_account_key": "k"})
    assert azure == {"spark.hadoop.fs.azure.account.key.store.dfs.core.windows.net": "k"}
    google = hadoop_conf("gs://bucket/lake", {"google_service_account": "/etc/key.json"})
    assert google["spark.hadoop.fs.gs.auth.service.account.json.keyfile"] == "/etc/key.json"
    assert hadoop_conf("/data/lake", OPTIONS) == {}


def test_both_spellings_are_one_place() -> None:
    assert normalize_uri("s3a://bucket/lake/") == normalize_uri("s3://bucket/lake") == ROOT


@pytest.mark.parametrize(
    ("root", "options", "says"),
    [
        (ROOT, {"aws_conditional_put": "disabled"}, "aws_conditional_put"),
        (ROOT, {"AWS_S3_ALLOW_UNSAFE_RENAME": "true"}, "AWS_S3_ALLOW_UNSAFE_RENAME"),
        (ROOT, {"s3_locking_provider": "dynamodb"}, "s3_locking_provider"),
        ("s3a://bucket/a b", {}, "s3://bucket/prefix"),
        ("s3://bucket/a%20b", {}, "s3://bucket/prefix"),
        ("s3://bucket//lake", {}, "s3://bucket/prefix"),
        ("s3://", {}, "s3://bucket/prefix"),
    ],
)  # fmt: skip
def test_what_could_lose_a_commit_or_be_read_differently_is_refused(
    root: str, options: dict[str, str], says: str
) -> None:
    assert says in find_trouble(root, options)
    with pytest.raises(ValueError, match=says):
        Settings(lakehouse=root, storage_options=options, kafka_bootstrap_servers="")


def test_an_unsafe_variable_of_the_machine_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_trouble(ROOT, OPTIONS) == ""
    monkeypatch.setenv("AWS_S3_ALLOW_UNSAFE_RENAME", "true")
    assert "AWS_S3_ALLOW_UNSAFE_RENAME" in find_trouble(ROOT, OPTIONS)
    assert find_trouble("/data/lake", {}) == ""


def test_reports_by_spark_are_refused_in_s3() -> None:
    Settings(lakehouse=ROOT, reports_engine="duckdb", kafka_bootstrap_servers="")
    with pytest.raises(ValueError, match="HEADRACE_REPORTS_ENGINE=duckdb"):
        Settings(lakehouse=ROOT, reports_engine="spark", kafka_bootstrap_servers="")


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        # The texts of delta-rs 1.6, of Arrow 26 and of S3A 3.5.
        ("Object at location x not found ... <Code>NoSuchBucket</Code>", StorageError, "no bucket bucket"),
        ("AWS Error NO_SUCH_BUCKET during PutObject operation", StorageError, "no bucket bucket"),
        ("Kernel error -> The operation lacked the necessary privileges to complete", StorageError, "refuses"),
        ("AWS Error ACCESS_DENIED during HeadObject operation", StorageError, "HEADRACE_STORAGE_OPTIONS"),
        ("java.nio.file.AccessDeniedException: s3a://b: (Service: S3, Status Code: 403)", StorageError, "refuses"),
        ("Generic S3 error ... error sending request ... (Connect)", StoreUnavailableError, "does not answer"),
        ("Generic S3 error ... 503 Service Unavailable", StoreUnavailableError, "does not answer"),
        ("AWS Error NETWORK_CONNECTION during PutObject: curlCode: 7", StoreUnavailableError, "aws_endpoint_url"),
        ("org.apache.hadoop.fs.s3a.AWSServiceThrottledException: (Service: S3, Status Code: 503)",
         StoreUnavailableError, "does not answer"),
        ("software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request",
         StoreUnavailableError, "does not answer"),
    ],
)  # fmt: skip
def test_what_a_library_says_of_the_store_becomes_one_error(text: str, kind: type[Exception], says: str) -> None:
    error = find_store_error(ROOT, text)
    assert type(error) is kind and says in str(error)


def test_what_is_about_something_else_is_none() -> None:
    assert find_store_error(ROOT, "Kafka: timed out waiting for a node assignment") is None
    assert find_store_error(ROOT, "Generic S3 error: odd") is None
    assert find_store_error("/data/lake", "Generic S3 error: 503 Service Unavailable") is None
