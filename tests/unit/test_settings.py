"""A bad setting is refused at load by its name, in one line, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from platform_assets.errors import SettingError
from resources.settings import Settings, load_settings

NUMBERS = [
    name
    for name, field in Settings.model_fields.items()
    if field.annotation in (int, float) and not isinstance(field.default, bool)
]


def refuse(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> str:
    monkeypatch.setenv(variable, value)
    load_settings.cache_clear()
    with pytest.raises(SettingError) as refused:
        load_settings()
    load_settings.cache_clear()
    return str(refused.value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["99999999999", "inf", "-inf", "nan", "-1", "1e300", "soon"])
def test_no_number_is_taken_that_ends_in_an_overflow(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refuse(monkeypatch, f"HEADRACE_{name.upper()}", value)
    assert f"HEADRACE_{name.upper()}: " in said and "\n" not in said


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HEADRACE_SPARK_MASTER", "local[0]", "must be local[N]"),
        ("HEADRACE_SPARK_MASTER", "foo", "must be local[N]"),
        ("HEADRACE_DRAIN_CRON", "a b c d e", "no cron schedule"),
        ("HEADRACE_DRAIN_CRON", "61 * * * *", "no cron schedule"),
        ("HEADRACE_RETENTION_DAYS", "nope", "must be a JSON object"),
        ("HEADRACE_RETENTION_DAYS", '{"silver.events": 9999999}', "must be at most"),
        ("HEADRACE_RETENTION_DAYS", '{"silver.events": 0}', "greater than or equal to 1"),
        ("HEADRACE_STORAGE_OPTIONS", "[]", "dictionary"),
        ("HEADRACE_SPARK_CONF", "{", "must be a JSON object"),
        ("HEADRACE_SPARK_CONF", '{"spark.master": "yarn"}', "HEADRACE_SPARK_MASTER"),
        ("HEADRACE_LAKEHOUSE", "s3a:/x", "Write both slashes"),
        ("HEADRACE_LAKEHOUSE", "gs:bucket/x", "Write both slashes"),
        ("HEADRACE_LAKEHOUSE", "gs://ann:hush@bucket/x", "must have no password and no query"),
        ("HEADRACE_LAKEHOUSE", "abfss://c@shop.dfs.core.windows.net/x?sig=hush", "must have no password and no query"),
        ("HEADRACE_BACKUP_PLACE", "s3://ann:hush@bucket/x", "must have no password and no query"),
        ("HEADRACE_BACKUP_PLACE", "s3://bucket/%41", "of others libraries disagree"),
    ],
)
def test_a_bad_value_is_named(variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = refuse(monkeypatch, variable, value)
    assert f"{variable}: " in refused and said in refused and "\n" not in refused and "hush" not in refused


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spark_master", "local"),
        ("spark_master", "local[*]"),
        ("spark_master", "local[2,3]"),
        ("spark_master", "spark://a:7077,b:7077"),
        ("spark_master", "k8s://https://host:443"),
        ("spark_master", "yarn"),
        ("drain_cron", "@hourly"),
        ("drain_cron", "0 6 * * 1-5"),
        ("lakehouse", "./s3a:/x"),
        ("lakehouse", "s3a://bucket/x"),
        ("lakehouse", "abfss://container@shop.dfs.core.windows.net/x"),
        ("backup_place", "gs://bucket/x"),
        ("retention_days", {"silver.events": 36_500}),
    ],
)
def test_a_good_value_is_taken(name: str, value: object) -> None:
    # What a master on other machines asks for besides.
    others = {"kafka_bootstrap_servers": "broker:9092", "lakehouse_is_shared": True}
    assert getattr(Settings.model_validate({**others, name: value}), name) is not None


def test_settings_are_read_from_files_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_settings: None
) -> None:
    (tmp_path / "headrace_kafka_config").write_text('{"sasl.password": "hush"}\n')
    (tmp_path / "HEADRACE_NOTIFY_URL").write_text("https://hooks.test/hush")
    (tmp_path / "headrace_storage_options").write_text('{"aws_secret_access_key": "hush"}')
    (tmp_path / "headrace_topic").write_text("of-a-file")
    monkeypatch.setenv("HEADRACE_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("HEADRACE_TOPIC", "of-the-environment")
    settings = load_settings()
    assert settings.kafka_config.get_secret_value() == '{"sasl.password": "hush"}'
    assert settings.notify_url.get_secret_value() == "https://hooks.test/hush"
    assert settings.storage_options == {"aws_secret_access_key": "hush"}
    assert settings.topic == "of-the-environment"
    assert "hush" not in repr(settings) + str(settings)


def test_a_file_of_a_setting_that_is_not_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert f"{folder} is no folder" in refuse(monkeypatch, "HEADRACE_SECRETS_DIR", str(folder))
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("hush")
    (folder / "headrace_kafka_config").symlink_to(tmp_path / "elsewhere")
    said = refuse(monkeypatch, "HEADRACE_SECRETS_DIR", str(folder))
    assert "HEADRACE_SECRETS_DIR: " in said and "resolves outside" in said and "hush" not in said
    (folder / "headrace_kafka_config").unlink()
    (folder / "headrace_retention_days").write_text("hush")
    said = refuse(monkeypatch, "HEADRACE_SECRETS_DIR", str(folder))
    assert "HEADRACE_RETENTION_DAYS: must be a JSON object" in said and "hush" not in said
