"""Recorded clickstreams: three formats, mapping, time, bad rows."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.simulator.mapping import RowMapping
from jobs.simulator.mapping_settings import load_mapping, parse_mapping
from jobs.simulator.recorded import Recording
from jobs.simulator.recorded_times import microseconds
from platform_assets.errors import UsageError

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
# The columns of a well-known public data set of a shop's events.
ITEM = {"product_id": 1003461, "brand": "acme", "price": 489.07}
ROWS: list[dict[str, Any]] = [
    {"event_time": "2019-11-01 00:00:00 UTC", "kind": "view", "user": 5, **ITEM},
    {"event_time": "2019-11-01 00:00:30 UTC", "kind": "cart", "user": 5, **ITEM},
    {"event_time": "2019-11-01 00:01:00 UTC", "kind": "purchase", "user": 6, **ITEM},
]
MAPPING = parse_mapping(
    ["event_time=timestamp", "kind=event_type", "user=user_id"],
    ["quantity=2"],
    ["event_type.view=page_view", "event_type.cart=add_to_cart"],
)


def write(folder: Path, form: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    path = folder / f"clicks.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if form.endswith(".gz") else text)
    return path


def events(recording: Recording) -> list[dict[str, Any]]:
    return [json.loads(value or b"") for _, _, value in recording.records(NOW)]


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_every_format_gives_the_same_events(tmp_path: Path, form: str) -> None:
    recording = Recording(write(tmp_path, form), mapping=MAPPING)
    sent = list(recording.records(NOW))
    assert [key for _, key, _ in sent] == [b"5", b"5", b"6"]
    view, cart, purchase = (json.loads(value or b"") for _, _, value in sent)
    assert (view["event_type"], cart["event_type"], purchase["event_type"]) == ("page_view", "add_to_cart", "purchase")
    assert view["timestamp"] == "2019-11-01T00:00:00.000000Z"
    assert (view["product_id"], view["user_id"], view["price"], view["quantity"]) == ("1003461", "5", 489.07, 2)
    assert "revenue" not in view and "revenue" not in purchase, "what was not recorded is not made up"
    assert view["brand"] == "acme", "a column that the contract does not know stays in the event"
    assert recording.tally.records == 3 and recording.tally.bad_rows == 0


def test_derived_event_ids_are_stable_and_differ_between_equal_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", [ROWS[0], ROWS[0]])
    first = [event["event_id"] for event in events(Recording(path, mapping=MAPPING))]
    again = [event["event_id"] for event in events(Recording(path, mapping=MAPPING, time="present"))]
    assert first == again and len(set(first)) == 2


def test_own_event_id_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", [{**ROWS[0], "event_id": "mine"}])
    assert events(Recording(path, mapping=MAPPING))[0]["event_id"] == "mine"


def times(recording: Recording) -> list[tuple[int, int]]:
    return [(at, microseconds(json.loads(value or b"")["timestamp"])) for at, _, value in recording.records(NOW)]


def test_original_and_compressed_time_leave_timestamps_alone(tmp_path: Path) -> None:
    path, begin = write(tmp_path, "csv"), microseconds("2019-11-01T00:00:00Z")
    expected = [(begin + s * SECOND, begin + s * SECOND) for s in (0, 30, 60)]
    original = Recording(path, mapping=MAPPING)
    compressed = Recording(path, mapping=MAPPING, time="compressed", speed=10)
    assert times(original) == times(compressed) == expected
    assert (original.pace, compressed.pace) == (None, 10)


def test_present_time_begins_now_and_runs_at_the_speed(tmp_path: Path) -> None:
    recording = Recording(write(tmp_path, "csv"), mapping=MAPPING, time="present", speed=10)
    assert times(recording) == [(NOW + s * SECOND, NOW + s * SECOND) for s in (0, 3, 6)]
    assert recording.pace == "wall_clock"


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_present_time_anchored_at_the_last_row_ends_now(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form, [ROWS[2], ROWS[0], ROWS[1]])
    recording = Recording(path, mapping=MAPPING, time="present", anchor="last")
    assert [at for _, at in times(recording)] == [NOW + s * SECOND for s in (0, -60, -30)]
    assert recording.pace is None


def test_send_times_never_go_back_when_rows_do(tmp_path: Path) -> None:
    sent = times(Recording(write(tmp_path, "csv", [ROWS[2], ROWS[0]]), mapping=MAPPING))
    assert sent[0][0] == sent[1][0] and sent[0][1] > sent[1][1]


BAD = [
    (b'{"event_time": 1572566400, "kind": "view", "user": 1}', None),
    (b"not json", "not JSON"),
    (b"[1, 2]", "not a JSON object"),
    (b'{"event_time": 1572566400, "kind": "view"}', "user_id"),
    (b'{"event_time": "soon", "kind": "view", "user": 1}', "timestamp"),
    (b'{"event_time": 1572566400, "kind": "view", "user": 1, "price": "cheap"}', "price"),
    (b'{"event_time": 1572566400, "kind": "view", "user": {"a": 1}}', "user_id"),
    (b'{"event_time": 1572566400, "kind": "wishlist", "user": 1, "price": -3}', None),
]


def test_bad_rows_are_counted_and_shown_with_their_number_and_the_rest_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "clicks.jsonl"
    path.write_bytes(b"\n".join(line for line, _ in BAD))
    recording = Recording(path, mapping=RowMapping(MAPPING.columns))
    assert len(events(recording)) == recording.tally.records == 2
    bad = [(number, reason) for number, (_, reason) in enumerate(BAD, 1) if reason]
    assert recording.tally.bad_rows == len(bad)
    for shown, (number, reason) in zip(recording.tally.shown, bad, strict=True):
        assert shown.startswith(f"row {number}: ") and reason in shown


def test_strict_ends_at_the_first_bad_row_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "clicks.jsonl"
    path.write_bytes(b"\n".join(line for line, _ in BAD))
    with pytest.raises(UsageError, match="row 2: not JSON"):
        events(Recording(path, mapping=RowMapping(MAPPING.columns), strict=True))


def test_csv_row_with_other_cells_than_the_header_or_not_utf8_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_bytes(b"event_type,timestamp,user_id\npage_view,1572566400,1\npage_view,1572566400\npage_view,1,\xff\n")
    recording = Recording(path)
    assert len(events(recording)) == 1
    assert [text.split(":")[0] for text in recording.tally.shown] == ["row 2", "row 3"]


def test_parquet_types_are_understood(tmp_path: Path) -> None:
    moment = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)
    row = {
        "timestamp": moment, "event_type": "purchase", "user_id": 4711.0, "price": Decimal("9.90"), "quantity": 3.0,
        "country": None, "note": Decimal("1.5"),
    }  # fmt: skip
    event = events(Recording(write(tmp_path, "parquet", [row])))[0]
    assert event["timestamp"] == "2024-02-29T12:00:00.123456Z"
    assert (event["user_id"], event["price"], event["quantity"]) == ("4711", 9.9, 3)
    assert event["country"] is None and event["note"] == "1.5"


def test_a_file_that_is_not_its_format_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "clicks.parquet"
    path.write_bytes(b"plain text")
    with pytest.raises(UsageError, match="Parquet"):
        events(Recording(path))
    with pytest.raises(UsageError, match="not known by its name"):
        Recording(write(tmp_path, "log"))
    with pytest.raises(UsageError, match="not a file"):
        Recording(tmp_path / "absent.csv")


def test_mapping_files_and_options_mean_the_same(tmp_path: Path) -> None:
    toml = tmp_path / "clicks.toml"
    toml.write_text(
        'null = ["NA"]\ntime_format = "seconds"\n[columns]\n'
        'event_time = "timestamp"\nkind = "event_type"\nuser = "user_id"\n'
        '[constants]\nquantity = "2"\n[values.event_type]\nview = "page_view"\ncart = "add_to_cart"\n'
    )
    as_json = tmp_path / "clicks.json"
    as_json.write_text(
        json.dumps(
            {
                "columns": MAPPING.columns, "constants": MAPPING.constants, "values": MAPPING.values,
                "null": ["NA"], "time_format": "seconds",
            }
        )
    )  # fmt: skip
    expected = MAPPING.merged(parse_mapping([], [], [], ["NA"], "seconds"))
    assert load_mapping(toml) == load_mapping(as_json) == expected
    assert expected.merged(parse_mapping([], [], [], [r"\N"])).nulls == {"NA", r"\N"}
    assert MAPPING.merged(parse_mapping([], ["quantity=3"], [])).constants == {"quantity": "3"}


@pytest.mark.parametrize(
    "arguments",
    [(["a"], [], []), (["a=no_field"], [], []), (["a=price", "b=price"], [], []), ([], ["x=1"], []), ([], [], ["a=b"])],
)
def test_bad_mapping_is_refused(arguments: tuple[list[str], list[str], list[str]]) -> None:
    with pytest.raises(UsageError):
        parse_mapping(*arguments)
