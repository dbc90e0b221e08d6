"""`headrace new-topic` in a copy of the project: from each kind of file, and what it refuses."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.operations.new_topic.draft import Draft, draft_topic
from jobs.operations.new_topic.field_names import name_class, name_fields
from jobs.operations.new_topic.samples import read_samples
from jobs.operations.new_topic.stream_file import write_stream
from platform_assets.errors import UsageError
from tests.copied_project import copy_project

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(number: int) -> datetime:
    return NOON + timedelta(seconds=7 * number)


def order(number: int) -> str:
    parts = [{"sku": f"S{number % 30}", "price": "9.99", "qty": 1 + number % 3}]
    record = {
        "orderId": f"O-{number:05}", "createdAt": f"{at(number):%Y-%m-%dT%H:%M:%SZ}", "class": "AB"[number % 2],
        "customer": {"id": number % 80, "vip": number % 7 == 0}, "status": ["open", "paid", "sent"][number % 3],
        "total": 20 if number % 9 == 0 else number + 0.25, "items": parts, "topic": "x", "zip": f"0{number:04}",
        "paid_at": None if number % 2 else 1_772_366_400_000 + number, "due": "2026-04-01", "a.b": 1, "tags": [],
        "labels": {f"k{number * 3 + n}": n / 2 for n in range(3)}, "note": None,
    }  # fmt: skip
    return json.dumps(record | ({"coupon": "X"} if number % 5 == 0 else {}))


LINES: dict[str, Callable[[int], str]] = {
    "orders.jsonl": order,
    "web.log": lambda n: (
        f'10.0.0.{n % 9} - {"ann" if n % 4 else "-"} [{at(n):%d/%b/%Y:%H:%M:%S +0000}] "GET /p/{n} HTTP/1.1" 200 '
        f'{n or "-"} "https://x.example/{n}" "Mozilla/5.0 (X11; \\"Linux\\")"'
    ),
    "old_syslog.log": lambda n: f"{at(n):%b} {at(n).day:2} {at(n):%H:%M:%S} host{n % 3} sshd[{n}]: message {n}",
    "new_syslog.log": lambda n: f"<34>1 {at(n).isoformat()} host{n % 3} su - ID{n} - message {n}",
    "pairs.log": lambda n: f'ts={at(n).isoformat()} level=info msg="hello {n}" user_id={n}' + (" topic=a" * (n % 2)),
    "app.log": lambda n: f"{at(n):%Y-%m-%d %H:%M:%S},123 [{['INFO', 'ERROR'][n % 2]}] my.module: something {n}",
    "readings.csv": lambda n: f"r-{n},s{n % 7},{1_772_366_400 + n},{n / 7:.4f},0{n % 10}12,{n % 2 == 0}".lower(),
}
HEADERS = {"readings.csv": "reading_id,sensor,ts,value,zip,ok\n"}


def write_file(folder: Path, name: str) -> Path:
    file = folder / name
    if name == "settlements.parquet":
        pq.write_table(build_payments(), file)
    else:
        file.write_text(HEADERS.get(name, "") + "\n".join(map(LINES[name], range(200))) + "\n")
    return file


def build_payments() -> pa.Table:
    return pa.table(
        {
            "event_time": pa.array([at(n) for n in range(200)], pa.timestamp("us", tz="UTC")),
            "account_id": pa.array([n % 9 for n in range(200)], pa.int32()),
            "amount": pa.array([Decimal(n).scaleb(-2) for n in range(200)], pa.decimal128(12, 2)),
            "attributes": pa.array([[("a", 1)]] * 200, pa.map_(pa.string(), pa.int64())),
            "signature": pa.array([b"x"] * 200),
            "seq": pa.array(range(200)),
            "day": pa.array([date(2026, 3, 1)] * 200),
            "share": pa.array([1.0] * 200),
        }
    )


FILES = (*LINES, "settlements.parquet")
# The copy has the topics of this project too, which may be called orders or readings.
PREFIX = "sampled_for_tests_"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("copied") / "project", "tests", "pyproject.toml", "README.md")


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project), "HEADRACE_HOME": str(project / "home")}
    return subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def demand_sound(project: Path, files: Sequence[str]) -> list[str]:
    """Demands that the written files are in style, and that the tests among them pass; returns these."""
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = run(project, "-m", *command, *files)
        assert done.returncode == 0, done.stdout
    tests = [file for file in files if file.startswith("tests/")]
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout
    return tests


@pytest.fixture(scope="module")
def written(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the command says for each kind of file; the copy has the topics from then on."""
    said = {}
    for name in FILES:
        file = write_file(tmp_path_factory.mktemp("samples"), name)
        done = run(project, "-m", "jobs.cli", "new-topic", f"{PREFIX}{file.stem}", "--from", str(file))
        assert done.returncode == 0, done.stderr
        said[file.stem] = done.stdout
    return said


SCHEMAS = {
    "orders.avsc": '{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string", "doc": "A date"}, '
    '{"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}',
    "orders.proto": 'syntax = "proto3"; message Order { int64 at_ms = 1; repeated Part parts = 2; } '
    "message Part { string sku = 1; enum Kind { NONE = 0; GIFT = 1; } Kind kind = 2; }",
    "orders.json": '{"type": "object", "required": ["at"], "properties": {"at": {"type": "string", '
    '"format": "date-time"}, "type": {"enum": ["sale", "digits(1)"]}}}',
}


def test_what_is_written_from_schemas_is_in_style_and_its_tests_pass(project: Path, tmp_path: Path) -> None:
    files = []
    for name, text in SCHEMAS.items():
        (tmp_path / name).write_text(text)
        topic = f"schema_for_tests_{Path(name).suffix[1:]}"
        done = run(project, "-m", "jobs.cli", "new-topic", topic, "--from", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        assert f"Next: headrace check-contract {topic}" in done.stdout
        files += re.findall("Written: (.*)", done.stdout)
    assert len(files) == 4 * len(SCHEMAS)
    tests = demand_sound(project, files)
    broken = project / "platform_assets/topics/schema_for_tests_avsc.py"
    text = broken.read_text()
    broken.write_text(text.replace("id: Annotated[str,", "id: Annotated[int,"))
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests[0])
    broken.write_text(text)
    assert done.returncode == 1 and "id is a text, and the contract wants a whole number" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Give one of --from FILE and --subject SUBJECT."),
        (("--from", "a.avsc", "--subject", "a"), "Give one of --from FILE and --subject SUBJECT."),
        (("--subject", "a"), "No schema registry is set."),
        (("--from", "broken.avsc"), "broken.avsc is no schema that can be used"),
        (("--from", "orders.jsonl", "--message", "M"), "--message is for schemas, and"),
    ],
)
def test_what_cannot_be_written_is_said(project: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    write_file(tmp_path, "orders.jsonl")
    (tmp_path / "broken.avsc").write_text("{")
    words = [str(tmp_path / word) if "." in word else word for word in arguments]
    done = run(project, "-m", "jobs.cli", "new-topic", "refused_for_tests", *words)
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert not list(project.glob("*/*/*refused_for_tests*"))


def list_written(project: Path, written: dict[str, str]) -> list[str]:
    words = [line.removeprefix("Written: ") for said in written.values() for line in said.splitlines()]
    found = [word for word in words if (project / word).is_file()]
    assert len(found) == 4 * len(FILES)
    return found


def test_what_is_written_is_in_style_and_its_tests_pass(project: Path, written: dict[str, str]) -> None:
    files = list_written(project, written)
    demand_sound(project, files)


@pytest.mark.long
def test_what_is_written_has_right_types_and_loads_with_its_checks(project: Path, written: dict[str, str]) -> None:
    done = run(project, "-m", "mypy", *list_written(project, written))
    assert done.returncode == 0, done.stdout
    tests = ("test_definitions", "test_groups", "test_import_cost", "test_topic_files", "test_stream_spec")
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/unit/{name}.py" for name in tests))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [Path(file).stem for file in FILES])
def test_all_samples_are_accepted_and_that_is_said(written: dict[str, str], name: str) -> None:
    assert "All 200 samples are accepted by the topic." in written[name]


def test_what_was_decided_is_said(written: dict[str, str]) -> None:
    for sentence in (
        "'a.b' has a dot",
        "total is money by its name",
        "tags[] is null or empty in all samples",
        "labels has 600 different keys: a dict.",
        "event time: created_at, in ISO 8601.",
        "event id: order_id, for no two of 200 different records share it.",
        "subject: customer_id.",
        "status has 3 different texts (open, paid, sent).",
        "Not in every record, or null in some: paid_at, coupon.",
    ):
        assert sentence in written["orders"]
    assert "without a year (RFC 3164)" in written["old_syslog"]


def test_a_second_call_overwrites_nothing(project: Path, written: dict[str, str], tmp_path: Path) -> None:
    file = write_file(tmp_path, "orders.jsonl")
    before = (project / f"platform_assets/topics/{PREFIX}orders.py").read_text()
    done = run(project, "-m", "jobs.cli", "new-topic", f"{PREFIX}orders", "--from", str(file))
    assert done.returncode == 1 and f"There is a topic {PREFIX}orders" in done.stderr
    (project / f"tests/unit/test_topic_{PREFIX}others.py").write_text("")
    done = run(project, "-m", "jobs.cli", "new-topic", f"{PREFIX}others", "--from", str(file))
    assert done.returncode == 1 and f"tests/unit/test_topic_{PREFIX}others.py: there already" in done.stderr
    assert (project / f"platform_assets/topics/{PREFIX}orders.py").read_text() == before
    assert not (project / f"platform_assets/topics/{PREFIX}others.py").exists()


def draft(folder: Path, name: str) -> Draft:
    return draft_topic("drafted", "drafted", read_samples(write_file(folder, name)))


def types_of(drafted: Draft) -> dict[str, str]:
    return {each.name: each.type.as_item() for each in drafted.fields}


def test_types_of_json(tmp_path: Path) -> None:
    assert types_of(draft(tmp_path, "orders.jsonl")) == {
        "order_id": "str", "created_at": "str", "class_": "str", "customer_id": "int", "customer_vip": "bool",
        "status": "str", "total": "Annotated[Decimal, digits(18, 2)]", "items": "list[Item]", "sent_topic": "str",
        "zip": "str", "due": "date", "labels": "dict[str, float]", "paid_at": 'Annotated[int, epoch("ms")]',
        "coupon": "str",
    }  # fmt: skip


def test_texts_of_a_table_are_typed_by_the_whole_column(tmp_path: Path) -> None:
    found = types_of(draft(tmp_path, "readings.csv"))
    assert found == {"reading_id": "str", "sensor": "str", "ts": "int", "value": "float", "zip": "str", "ok": "bool"}


def test_types_of_parquet_are_its_own(tmp_path: Path) -> None:
    drafted = draft(tmp_path, "settlements.parquet")
    assert types_of(drafted) == {
        "event_time": "str", "account_id": "Annotated[int, Meta(le=2**31 - 1)]", "seq": "int", "share": "float",
        "amount": "Annotated[Decimal, digits(12, 2)]", "attributes": "dict[str, int]", "signature": "bytes",
        "day": "date",
    }  # fmt: skip
    assert (drafted.event_id, drafted.subject) == (("account_id", "seq"), "account_id")


@pytest.mark.parametrize(
    ("of", "values", "digits"),
    [
        (pa.decimal256(50, 4), ["1.2500", "7.0000"], "digits(38, 4)"),
        (pa.decimal256(60, 45), ["0.5", "0.25"], "digits(38, 38)"),
    ],
)
def test_digits_of_parquet_that_no_column_has(tmp_path: Path, of: pa.DataType, values: list[str], digits: str) -> None:
    file = tmp_path / "drafted.parquet"
    quantities = pa.array([Decimal(value) for value in values], of)
    pq.write_table(pa.table({"at": pa.array([at(0), at(1)], pa.timestamp("us", "UTC")), "size": quantities}), file)
    assert types_of(draft_topic("drafted", "drafted", read_samples(file)))["size"] == f"Annotated[Decimal, {digits}]"


@pytest.mark.parametrize("name", ["sessions", "quarantined_events", "deduplicated_transactions"])
def test_the_name_of_a_stream_or_of_its_table_is_taken(project: Path, tmp_path: Path, name: str) -> None:
    done = run(project, "-m", "jobs.cli", "new-topic", name, "--from", str(write_file(tmp_path, "orders.jsonl")))
    assert done.returncode == 1 and "already. Give the topic another name." in done.stderr
    assert not (project / f"platform_assets/topics/{name}.py").exists()


def test_the_rule_counts_records_that_have_fields_called_as_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "drafted.jsonl"
    record = (
        '{{"at": "2026-03-01T12:0{}:00Z", "group": "{}", "window_start": 7, "window_end": "x", "record_count": 3}}\n'
    )
    file.write_text("".join(record.format(n % 9, "ab"[n % 2]) for n in range(30)))
    stream = write_stream(draft_topic("drafted", "drafted", read_samples(file)), 17.0)
    (rule,) = re.findall('RULE = """(.*?)"""', stream, re.DOTALL)
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE VIEW events AS SELECT TIMESTAMPTZ '2026-03-01 12:01:00Z' AS event_time, 'a' AS \"group\", "
            "7 AS window_start, 'x' AS window_end, 3 AS record_count FROM range(2)"
        )
        (row,) = connection.sql(
            f"SELECT epoch(window_start), epoch(window_end), * EXCLUDE (window_start, window_end) FROM ({rule})"
        ).fetchall()
    start = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    assert row == (start, start + 300, "a", 2)


def test_a_number_of_more_than_64_bits_is_no_id(tmp_path: Path) -> None:
    file = tmp_path / "drafted.jsonl"
    file.write_text("".join(f'{{"at": "2026-03-01T12:00:00Z", "id": {2**63 + n}}}\n' for n in range(30)))
    drafted = draft_topic("drafted", "drafted", read_samples(file))
    assert (drafted.event_id, types_of(drafted)["id"]) == ((), "Annotated[Decimal, digits(38, 0)]")


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    plain = write_file(tmp_path, "orders.jsonl")
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_samples(packed).raw == read_samples(plain).raw


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.jsonl", None, "There is no file"),
        ("a.jsonl", "", "holds no record"),
        ("a.jsonl", "{}\n{}\n", "have no fields"),
        ("a.jsonl", "[\n{}\n]", "line 1: not JSON"),
        ("a.jsonl", '{"at": "2026-03-01T12:00:00Z"}\n7\n', "line 2: a JSON number, not an object"),
        ("a.jsonl", '{"at": "2026-03-01T12:00:00Z", "n": 1}\n{"at": "2026-03-01T12:00:01Z", "n": "x"}\n',
         "n is of several types: a number (line 1), a string (line 2)"),
        ("a.jsonl", '{"at": "2026-03-01", "n": 1}\n', "No field of the samples is a time"),
        ("a.csv", "a,b\n1\n", "row 1: 1 cells"),
        ("a.csv", "a,\n1,2\n", "a column has no name"),
        ("a.csv", "a,b,a\n1,2,3\n", "the header has a twice, and one would be lost"),
        ("a.csv", "a;b\n1;2,5\n", "its cells stand between ';', and commas are read"),
        ("a.tsv", "a;b\n1;2\n", "its cells stand between ';', and tabs are read"),
        ("a.jsonl", '[{"at": "2026-03-01T12:00:00Z"}]\n', "Write one object a line. Lists of records:"),
        ("a.log", "", "holds no line"),
        ("a.log", "hello\nworld\n", "no known format fits half of the lines"),
        ("a.bin", "x", "is not known by its name"),
        ("a.parquet", "x", "cannot be read as Parquet"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        draft_topic("drafted", "drafted", read_samples(tmp_path / name))
    assert said in str(caught.value)


def test_letters_that_look_like_digits_are_no_names() -> None:
    assert name_fields(["l", "L", "o", "I"], is_top=True) == {"l": "l_", "L": "l__2", "o": "o", "I": "i"}
    assert [name_class(key, ()) for key in ("l", "o", "i")] == ["L", "PartO", "PartI"]
