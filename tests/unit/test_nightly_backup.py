"""The nightly backup: a copy that is made while files change, its rehearsal, what is kept of it, and the check."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from dagster_postgres.run_storage import PostgresRunStorage
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from jobs.definitions.nightly_backup import build_backup_job, build_backup_schedule
from jobs.operations import nightly_backup
from jobs.operations.backup import back_up, restore
from jobs.operations.dagster_dump import dump_dagster
from jobs.operations.lakehouse_copy import LakehouseCopy
from jobs.operations.nightly_backup import make_nightly_backup, rehearse
from jobs.supervision.group_lock import read_lock
from jobs.supervision.held_group import own_resting_groups
from jobs.supervision.lease import read_control
from platform_assets.checks.backup_restored import judge
from platform_assets.errors import SettingError, StorageError, UsageError
from platform_assets.folders import Folder
from platform_assets.kept_backups import (
    DAGSTER_DUMP,
    FILE_LIST,
    MANIFEST,
    REHEARSAL,
    KeptBackup,
    Manifest,
    Rehearsal,
    find_superfluous,
    list_backups,
    name_backup,
    read_rehearsal,
)
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings, load_settings
from tests.generated_cases import examples
from tests.integration.postgres_server import find_binaries, running_postgres

GROUPS = [StreamGroup("clickstream", ()), StreamGroup("payments", ())]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILES = [f"{folder}/{name}" for folder in ("silver/t", "silver/t/_delta_log", "_checkpoints/q") for name in "ab"]
CHANGES = st.dictionaries(st.sampled_from(FILES), st.none() | st.binary(max_size=3), max_size=len(FILES))
LONG_AGO = 1_700_000_000


def change(root: Path, changes: dict[str, bytes | None], written_at: float) -> None:
    for path, content in changes.items():
        file = root / path
        if content is None:
            file.unlink(missing_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            os.utime(file, (written_at, written_at))


def read_files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@given(CHANGES, CHANGES, st.booleans())
@examples(30)
def test_a_copy_is_what_the_lakehouse_is_at_its_end(
    before: dict[str, bytes | None], during: dict[str, bytes | None], is_recent: bool
) -> None:
    """Files are made, rewritten with as many bytes, and removed, while the first part of the copy is made."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.mkdir()
        target.mkdir()
        change(source, before, time.time() if is_recent else LONG_AGO)
        copy = LakehouseCopy(Folder(str(source)), Folder(str(target)))
        copy.approach()
        assert is_recent == (not read_files(target)) or not read_files(source)
        change(source, during, time.time())
        copy.complete()
        assert read_files(target) == read_files(source)
        assert {path: file.size for path, file in copy.files.items()} == {
            path: len(content) for path, content in read_files(source).items()
        }


@given(st.lists(st.booleans(), max_size=9), st.lists(st.booleans(), max_size=9), st.integers(1, 4))
def test_the_newest_whole_ones_stay_and_what_was_cut_short_goes_once_a_newer_one_is_whole(
    before: list[bool], ahead: list[bool], kept: int
) -> None:
    """A clock was ahead when `ahead` were made: they are dated later than the backup that was proved just now."""
    are_whole = [*before, True, *ahead]
    names = [name_backup(NOW + timedelta(days=day)) for day in range(len(are_whole))]
    proved = names[len(before)]
    whole = [name for name, is_whole in zip(names, are_whole, strict=True) if is_whole]
    gone = find_superfluous(names, whole, kept, proved)
    left = [name for name in names if name not in gone]
    assert proved in left and names[len(before) :] == left[left.index(proved) :]
    assert set(whole[-kept:]) <= set(left)
    assert len([name for name in left if name < proved]) == max(0, min(sum(before), kept - 1 - sum(ahead)))
    assert all(name in whole for name in left if name < proved)


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """A lakehouse of two tables and a checkpoint, and a place for backups."""
    settings = Settings(
        home=tmp_path / "home", kafka_bootstrap_servers="127.0.0.1:9", lakehouse=str(tmp_path / "lakehouse"),
        backup_place=str(tmp_path / "backups"), backups_kept=1, min_free_mib=1,
    )  # fmt: skip
    for name in ("silver/first", "gold/second"):
        for number in range(3):
            write_deltalake(f"{settings.lakehouse}/{name}", pa.table({"number": [number, number]}), mode="append")
    change(Path(settings.lakehouse), {"_checkpoints/silver/first/commits/0": b"v1"}, LONG_AGO)
    return settings


def make(settings: Settings, instance: dg.DagsterInstance) -> str:
    return make_nightly_backup(GROUPS, settings, instance, lambda line: None).name


def test_a_backup_is_rehearsed_and_only_then_the_oldest_one_goes(own: Settings, tmp_path: Path) -> None:
    place = Folder(own.backup_place)
    cut_short = name_backup(NOW)
    change(tmp_path / "backups", {f"{cut_short}/silver/first/a": b"x", "not ours/file": b"x"}, LONG_AGO)
    with dg.instance_for_test() as instance:
        with pytest.raises(SettingError, match="HEADRACE_BACKUP_PLACE is not set"):
            make(own.model_copy(update={"backup_place": ""}), instance)
        first = make(own, instance)
        [kept] = list_backups(place)
        assert kept.name == first and kept.rehearsal is not None and kept.rehearsal.passed
        assert kept.manifest.rows == {"silver.first": 6, "gold.second": 6}
        assert place.list_folders() == [first, "not ours"]
        assert not (own.home / "backup_rehearsal").exists()
        assert judge([kept], datetime.now(UTC), timedelta(hours=1)).passed

        write_deltalake(f"{own.lakehouse}/silver/first", pa.table({"number": [7]}), mode="append")
        damaged = _have_damaged(own, instance)
        assert [backup.name for backup in list_backups(place)] == [first, damaged]
        verdict = judge(list_backups(place), datetime.now(UTC), timedelta(hours=1))
        assert not verdict.passed and "could not be restored: The file silver/first/" in str(verdict.description)

        last = make(own, instance)
        assert place.list_folders() == [last, "not ours"]
    moved = own.model_copy(update={"lakehouse": str(tmp_path / "moved")})
    assert restore(GROUPS, moved, f"{own.backup_place}/{last}") == {"silver.first": 3, "gold.second": 2}
    assert read_files(tmp_path / "moved") == read_files(Path(own.lakehouse))


def _have_damaged(own: Settings, instance: dg.DagsterInstance) -> str:
    """A backup of which one byte has changed on its disk before it was rehearsed."""

    def damage(groups: object, settings: Settings, name: str) -> Rehearsal:
        file = next(Path(own.backup_place, name, "silver", "first").glob("*.parquet"))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(StorageError, match=rf"{file.name} is not what was written: it is damaged"):
            restore(GROUPS, settings.model_copy(update={"lakehouse": f"{own.home}/else"}), str(file.parents[2]))
        return rehearse(GROUPS, settings, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nightly_backup, "rehearse", damage)
        time.sleep(1.0 - time.time() % 1)  # a backup is named by its second
        with pytest.raises(StorageError, match="was restored for a trial and is not what was copied"):
            make(own, instance)
    return list_backups(Folder(own.backup_place))[-1].name


def test_a_backup_is_refused_where_it_would_fill_the_disk_or_hold_itself(own: Settings) -> None:
    free = shutil.disk_usage(own.lakehouse).free >> 20
    with dg.instance_for_test() as instance:
        with pytest.raises(StorageError, match=r"HEADRACE_MIN_FREE_MIB\. Nothing was copied"):
            make(own.model_copy(update={"min_free_mib": free + 1024}), instance)
        with pytest.raises(UsageError, match="lies in the lakehouse"):
            make(own.model_copy(update={"backup_place": f"{own.lakehouse}/backups"}), instance)
    Path(own.home, "link").symlink_to(own.lakehouse)
    for place in (own.lakehouse, f"{own.home}/link/backups"):
        with pytest.raises(UsageError, match="lies in the lakehouse"):
            back_up(GROUPS, own, place)


OWNER = """
import sys, time
from pathlib import Path
import dagster as dg
from jobs.supervision.held_group import own_resting_groups
from resources.settings import Settings, load_settings
settings = Settings(home=Path(sys.argv[1]), kafka_bootstrap_servers="")
with dg.DagsterInstance.get() as instance, own_resting_groups(["clickstream"], "nightly-backup", settings, instance):
    print("owned", flush=True)
    sys.stdin.read()
"""


def test_a_group_whose_backup_is_killed_is_free_and_nobody_has_to_resume_it(tmp_path: Path) -> None:
    with dg.instance_for_test() as instance:
        command = [sys.executable, "-c", OWNER, str(tmp_path)]
        environment = os.environ | {"DAGSTER_HOME": instance.root_directory}
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None and owner.stdout.readline() == b"owned\n"
            assert read_lock(tmp_path, "clickstream").owner_mode == "nightly-backup"
            owner.kill()
        assert not read_lock(tmp_path, "clickstream").held
        assert not read_control(instance, "clickstream").paused
        settings = Settings(home=tmp_path, kafka_bootstrap_servers="")
        with own_resting_groups(["clickstream"], "nightly-backup", settings, instance):
            assert read_lock(tmp_path, "clickstream").owner_mode == "nightly-backup"


def build_kept(hours: float, breaches: tuple[str, ...] | None = ()) -> KeptBackup:
    at = NOW - timedelta(hours=hours)
    rehearsal = None if breaches is None else Rehearsal(at, breaches, 1.0)
    return KeptBackup(name_backup(at), Manifest({"silver.events": 3}, at), rehearsal)


@pytest.mark.parametrize(
    ("backups", "passed", "said"),
    [
        ([], False, "There is no backup"),
        ([build_kept(2, None)], False, "There is no backup"),
        ([build_kept(29)], True, "is 29 hours old"),
        ([build_kept(31)], False, "none is to be older than 30 hours"),
        ([build_kept(29), build_kept(1, None)], True, "is 29 hours old"),
        ([build_kept(31), build_kept(1, None)], False, "is 31 hours old"),
        ([build_kept(29), build_kept(1, ("a file is missing",))], False, "could not be restored: a file is missing"),
        ([build_kept(29, ("a file is missing",)), build_kept(1)], True, "is 1 hours old"),
        ([build_kept(-24)], False, "There is no backup"),
        ([build_kept(31), build_kept(-24)], False, "is 31 hours old"),
        ([build_kept(29), build_kept(-24, ("a file is missing",))], True, "is 29 hours old"),
        ([build_kept(-0.5)], True, "hours old"),
    ],
)
def test_the_check_asks_for_a_young_backup_that_was_restored(
    backups: list[KeptBackup], passed: bool, said: str
) -> None:
    verdict = judge(backups, NOW, timedelta(hours=30))
    assert verdict.passed is passed and said in str(verdict.description)


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    name = name_backup(NOW)
    change(tmp_path, {f"{name}/{MANIFEST}": b'{"tables": '}, LONG_AGO)
    with pytest.raises(StorageError, match=f"{name}/{MANIFEST} cannot be read"):
        list_backups(Folder(str(tmp_path)))
    assert read_rehearsal(Folder(str(tmp_path)), name) is None


@pytest.mark.parametrize("text", [b"", b"{", b'{"at": "yesterday"}', b'{"at": 1, "breaches": null}', b"\xff"])
def test_a_verdict_that_cannot_be_read_is_named(tmp_path: Path, text: bytes) -> None:
    name = name_backup(NOW)
    change(tmp_path, {f"{name}/{REHEARSAL}": text}, LONG_AGO)
    with pytest.raises(StorageError, match=rf"{name}/{REHEARSAL} cannot be read"):
        read_rehearsal(Folder(str(tmp_path)), name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, f"The file {FILE_LIST} is missing"),
        (b"{", f"{FILE_LIST} cannot be read"),
        (b"[]", f"{FILE_LIST} cannot be read"),
        (b'{"silver/first/a": [1]}', f"{FILE_LIST} cannot be read"),
        (b'{"../../etc/passwd": [1, "00"]}', "The file ../../etc/passwd is missing"),
    ],
)
def test_a_backup_whose_list_of_files_is_damaged_is_not_restored(
    own: Settings, tmp_path: Path, text: bytes | None, said: str
) -> None:
    place = tmp_path / "copy"
    back_up(GROUPS, own, str(place))
    change(place, {FILE_LIST: text}, LONG_AGO)
    with pytest.raises(StorageError, match=re.escape(said)):
        restore(GROUPS, own.model_copy(update={"lakehouse": str(tmp_path / "restored")}), str(place))


def test_what_a_disk_or_a_tables_log_refuses_is_one_line_with_the_backups_name(own: Settings, tmp_path: Path) -> None:
    (own.home / "backup_rehearsal").parent.mkdir(exist_ok=True)
    (own.home / "backup_rehearsal").symlink_to(tmp_path)  # which is not removed as a folder is
    with dg.instance_for_test() as instance, pytest.raises(StorageError, match=r"^The backup .*backup-.* has not come"):
        make(own, instance)
    log = Path(own.lakehouse, "gold/second/_delta_log/00000000000000000001.json")
    log.write_text('{"add": 1}')
    with pytest.raises(StorageError, match=rf"^The backup {tmp_path}/copy has not come to its end: \w+\. Put"):
        back_up(GROUPS, own, str(tmp_path / "copy"))


@pytest.mark.parametrize(
    "place", ["s3://key:secret@lake/x", "gs://a:secret@lake", "s3://lake/x?key=secret", "s3://[secret"]
)
def test_a_place_has_no_log_in(own: Settings, place: str) -> None:
    for operation in (back_up, restore):
        with pytest.raises(UsageError, match="The place of a backup") as typed:
            operation(GROUPS, own, place)
        assert "secret" not in str(typed.value)
    with pytest.raises(ValueError, match="backup_place") as refused:
        Settings(kafka_bootstrap_servers="", backup_place=place)
    assert "secret" not in str(refused.value.errors(include_input=False))  # type: ignore[attr-defined]


def test_the_schedule_asks_for_one_backup_where_there_is_a_place_for_it(own: Settings) -> None:
    job = build_backup_job()
    with (
        dg.instance_for_test() as instance,
        dg.build_schedule_context(instance=instance, scheduled_execution_time=NOW) as context,
    ):
        schedule = build_backup_schedule(job, own)
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        request = schedule(context)
        assert isinstance(request, dg.RunRequest) and dg.validate_run_config(job, request.run_config)
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert isinstance(schedule(context), dg.SkipReason)
        off = build_backup_schedule(job, own.model_copy(update={"backup_place": ""}))
        assert off.default_status is dg.DefaultScheduleStatus.STOPPED and isinstance(off(context), dg.SkipReason)


def test_a_run_without_a_place_fails_with_one_line_and_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    load_settings.cache_clear()
    with dg.instance_for_test() as instance, pytest.raises(dg.Failure, match="HEADRACE_BACKUP_PLACE is not set"):
        build_backup_job().execute_in_process(instance=instance, tags={"dagster/schedule_name": "nightly_backup"})
    load_settings.cache_clear()
    rows = DeltaTable(f"{tmp_path}/lakehouse/platform/audit_log").to_pyarrow_table().to_pylist()
    assert sorted(row["outcome"] for row in rows) == ["begun", "failed"]
    assert {row["who"] for row in rows} == {"schedule nightly_backup"}


@pytest.mark.skipif(find_binaries() is None, reason="needs Debian's package postgresql")
def test_dagsters_postgres_is_in_the_backup_and_a_failed_dump_is_not(tmp_path: Path) -> None:
    binaries = find_binaries()
    assert binaries is not None
    backup = Folder(str(tmp_path))
    with running_postgres() as port:
        address = f"postgresql+psycopg2://dagster@127.0.0.1:{port}/dagster"
        overrides = {"storage": {"postgres": {"postgres_url": address}}}
        with dg.instance_for_test(overrides=overrides) as instance:
            instance.daemon_cursor_storage.set_cursor_values({"headrace/test": "kept"})
            assert "is in the backup" in dump_dagster(instance, backup)
            restored = subprocess.run(
                [str(binaries / "pg_restore"), "--data-only", "--table=kvs", "--file=-",
                 str(tmp_path / "headrace_backup_dagster.dump")],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            assert "headrace/test\tkept" in restored.stdout
            storage = instance.run_storage
            assert isinstance(storage, PostgresRunStorage)
            storage.postgres_url = storage.postgres_url.replace("/dagster", "/nowhere")  # as where it was renamed
            with pytest.raises(StorageError, match=r"could not be dumped: .*nowhere"):
                dump_dagster(instance, backup)
            storage.postgres_url = f"{address}?sslmode=require"  # what Dagster demands of the server, pg_dump does too
            with pytest.raises(StorageError, match=r"could not be dumped: .*SSL"):
                dump_dagster(instance, backup)
            assert read_files(tmp_path) == {}
            storage.postgres_url = address
            (tmp_path / DAGSTER_DUMP).symlink_to("/dev/full")
            with pytest.raises(StorageError, match=r"could not be dumped to .*No space left"):
                dump_dagster(instance, backup)


@pytest.mark.skipif(find_binaries() is None, reason="needs Debian's package postgresql")
def test_a_pg_dump_that_fails_keeps_no_backup_from_being_proved(
    own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tmp_path / "programs" / "pg_dump"  # says what one of version 15 says to a server of version 17
    older.parent.mkdir()
    older.write_text("#!/bin/sh\necho 'pg_dump: error: aborting because of server version mismatch' >&2\nexit 1\n")
    older.chmod(0o755)
    monkeypatch.setenv("PATH", str(older.parent), prepend=os.pathsep)
    with running_postgres() as port:
        address = f"postgresql+psycopg2://dagster@127.0.0.1:{port}/dagster"
        with (
            dg.instance_for_test(overrides={"storage": {"postgres": {"postgres_url": address}}}) as instance,
            pytest.raises(StorageError, match=r"could not be dumped: .*server version mismatch"),
        ):
            make(own, instance)
    [kept] = list_backups(Folder(own.backup_place))
    assert judge([kept], datetime.now(UTC), timedelta(hours=1)).passed
