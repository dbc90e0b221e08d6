"""Recordings with wrong clocks, in no order, with long silences, and in the notations of other programs."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.simulator.mapping_settings import parse_mapping
from jobs.simulator.recorded import Recording
from jobs.simulator.recorded_times import microseconds
from jobs.simulator.sent_recordings import Sending, SentRecordings, describe_repeat
from jobs.simulator.time_survey import DAY, HOUR, TimeSurvey
from platform_assets.errors import UsageError

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
BEGIN = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR_OF_ROWS = [BEGIN + timedelta(seconds=3.6 * i) for i in range(1000)]


def write(folder: Path, times: Iterable[datetime]) -> Path:
    path = folder / "clicks.jsonl"
    rows = [{"event_type": "page_view", "timestamp": at.isoformat(), "user_id": i} for i, at in enumerate(times)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sent(recording: Recording) -> list[tuple[int, int]]:
    return [(at, microseconds(json.loads(value or b"")["timestamp"])) for at, _, value in recording.records(NOW)]


def events(recording: Recording) -> list[dict[str, Any]]:
    return [json.loads(value or b"") for _, _, value in recording.records(NOW)]


@pytest.mark.parametrize("wrong", ["2099-01-01", "2025-03-01", "2024-03-03T12", "2001-01-01", "1970-01-01"])
@pytest.mark.parametrize("place", [0, 499, 999])
@pytest.mark.parametrize(
    "how", [{"time": "compressed", "speed": 3600}, {"time": "present"}, {"time": "present", "anchor": "last"}]
)
def test_one_bad_clock_is_named_and_left_out(tmp_path: Path, wrong: str, place: int, how: dict[str, Any]) -> None:
    times = list(HOUR_OF_ROWS)
    times[place] = datetime.fromisoformat(wrong).replace(tzinfo=UTC)
    control = Recording(write(tmp_path, times[:place] + times[place + 1 :]), **how)
    expected = sent(control)
    recording = Recording(write(tmp_path, times), **how)
    assert sent(recording) == expected, "the others are where they are without it"
    assert (recording.tally.bad_rows, control.tally.bad_rows) == (1, 0)
    assert f"row {place + 1:,}: " in recording.tally.shown[0] and wrong[:10] in recording.tally.shown[0]


def test_original_times_are_for_the_stream_to_judge(tmp_path: Path) -> None:
    recording = Recording(write(tmp_path, [*HOUR_OF_ROWS, datetime(2099, 1, 1, tzinfo=UTC)]))
    assert len(sent(recording)) == 1001 and recording.tally.bad_rows == 0


def test_the_limit_can_be_raised_and_strict_ends_at_such_a_row(tmp_path: Path) -> None:
    path = write(tmp_path, [*HOUR_OF_ROWS, BEGIN + timedelta(days=20)])
    assert len(sent(Recording(path, time="present", far_days=21))) == 1001
    assert len(sent(Recording(path, time="present", far_days=float("inf")))) == 1001
    with pytest.raises(UsageError, match=r"row 1,001: .*far from the rest"):
        sent(Recording(path, time="present", strict=True))
    with pytest.raises(UsageError, match="far_days"):
        Recording(path, far_days=float("nan"))


def survey(times: Iterable[int]) -> tuple[int, int] | None:
    found = TimeSurvey()
    for at in times:
        found.add(at)
    return found.bounds(DAY)


def test_a_shop_with_nights_weekends_and_holidays_keeps_all_its_rows() -> None:
    working = [week * 7 * DAY + day * DAY + i * HOUR for week in range(20) for day in range(5) for i in range(8, 17)]
    holiday = [at + (7 * DAY if at > 100 * DAY else 0) for at in working]
    assert survey(working) == (working[0], working[-1]) and survey(holiday) == (holiday[0], holiday[-1])
    monthly = [month * 30 * DAY for month in range(12)]
    assert survey(monthly) == (0, 330 * DAY)
    assert survey([]) is None and survey([0, 900 * DAY]) == (0, 900 * DAY), "of two nobody knows which is wrong"
    both = [*range(0, DAY, HOUR), *range(90 * DAY, 91 * DAY, HOUR)]
    assert survey(both) == (0, 91 * DAY - HOUR), "two halves are two halves"


@given(
    st.lists(st.integers(0, 12 * HOUR), min_size=20, max_size=200),
    st.lists(st.integers(3 * DAY, 30_000 * DAY) | st.integers(-30_000 * DAY, -3 * DAY), max_size=2),
)
def test_up_to_a_tenth_of_wrong_times_never_moves_the_bounds(times: list[int], wrong: list[int]) -> None:
    shuffled = times + wrong
    random.Random(len(shuffled)).shuffle(shuffled)
    bounds = survey(shuffled)
    assert bounds == (min(times), max(times))


@pytest.mark.parametrize("how", [{"time": "compressed"}, {"time": "present"}])
def test_paced_rows_are_put_in_order_and_it_is_said(tmp_path: Path, how: dict[str, Any]) -> None:
    shuffled = list(HOUR_OF_ROWS)
    random.Random(4).shuffle(shuffled)
    recording, ordered = Recording(write(tmp_path, shuffled), **how), Recording(write(tmp_path, HOUR_OF_ROWS), **how)
    expected = sent(ordered)
    write(tmp_path, shuffled)
    found = sent(recording)
    assert found == expected and found == sorted(found)
    assert recording.tally.unordered > 900 and recording.tally.sent_unordered == 0
    assert any("sent in order" in text for text in recording.tally.warnings(is_paced=True))
    assert list(ordered.tally.warnings(is_paced=True)) == []


def test_rows_further_from_their_place_than_the_buffer_are_counted(tmp_path: Path) -> None:
    times = [BEGIN + timedelta(seconds=i) for i in range(10_500)]
    recording = Recording(write(tmp_path, [*times[1:], times[0]]), time="compressed", speed=10_000)
    assert len(sent(recording)) == 10_500
    assert (recording.tally.unordered, recording.tally.sent_unordered) == (1, 1)
    assert any("repaired" in text for text in recording.tally.warnings(is_paced=True))


def test_unpaced_rows_keep_the_file_s_order_with_a_warning(tmp_path: Path) -> None:
    recording = Recording(write(tmp_path, HOUR_OF_ROWS[::-1]))
    assert [at for _, at in sent(recording)] == [microseconds(at) for at in HOUR_OF_ROWS[::-1]]
    assert recording.tally.unordered == 999 and recording.tally.furthest_back == round(3596.4 * SECOND)
    assert any(
        "999 rows were sent after later ones (furthest: 0:59:56 behind row 1)" in text
        for text in recording.tally.warnings(is_paced=False)
    )


def test_a_silence_is_cut_to_the_longest_wait(tmp_path: Path) -> None:
    path = write(tmp_path, [BEGIN, BEGIN + timedelta(hours=8), BEGIN + timedelta(hours=8, seconds=60)])
    present = Recording(path, time="present", longest_wait=600)
    assert [at - NOW for at, _ in sent(present)] == [0, 600 * SECOND, 660 * SECOND] and present.tally.silences == 1
    assert all(at == timestamp for at, timestamp in sent(Recording(path, time="present")))
    compressed = Recording(path, time="compressed", speed=60, longest_wait=60)
    begin = microseconds(BEGIN)
    assert [at - begin for at, _ in sent(compressed)] == [0, HOUR, HOUR + 60 * SECOND]
    assert [at - begin for _, at in sent(compressed)] == [0, 8 * HOUR, 8 * HOUR + 60 * SECOND]
    whole = Recording(path, time="present", longest_wait=float("inf"))
    assert [at - NOW for at, _ in sent(whole)] == [0, 8 * HOUR, 8 * HOUR + 60 * SECOND]
    with pytest.raises(UsageError, match="longest_wait"):
        Recording(path, longest_wait=0)


def test_a_month_of_dates_is_refused_or_read_as_its_days(tmp_path: Path) -> None:
    path = tmp_path / "ga4.csv"
    rows = "".join(f"page_view,202101{day:02},{user}\n" for day in range(1, 32) for user in "abc")
    path.write_text("event_type,timestamp,user_id\n" + rows)
    refused = Recording(path)
    assert sent(refused) == [] and refused.tally.bad_rows == 93
    assert "'20210101'" in refused.tally.shown[0] and "--time-format" in refused.tally.shown[0]
    days = Recording(path, time="present", anchor="last", mapping=parse_mapping([], [], [], [], "date"))
    assert sorted({(NOW - at) // DAY for _, at in sent(days)}) == list(range(31))


LINE = b'{"event_type": "page_view", "timestamp": "2024-03-01T12:00:00Z", "user_id": "a"}\n'


@pytest.mark.parametrize("name", ["clicks.jsonl", "clicks.jsonl.gz", "clicks.jsonl.zst", "clicks.json"])
def test_byte_order_marks_and_compression(tmp_path: Path, name: str) -> None:
    content = b"\xef\xbb\xbf" + LINE + b"\xef\xbb\xbf" + LINE
    if name.endswith(".gz"):
        content = gzip.compress(content[:20]) + gzip.compress(content[20:])
    elif name.endswith(".zst"):
        content = pa.compress(content[:20], "zstd", asbytes=True) + pa.compress(content[20:], "zstd", asbytes=True)
    (tmp_path / name).write_bytes(content)
    recording = Recording(tmp_path / name)
    assert len(events(recording)) == 2 and recording.tally.bad_rows == 0
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(b"\xef\xbb\xbf" + LINE + b"\xef\xbb\xbf" + LINE)
    assert recording.file.digest() == Recording(plain).file.digest()


def test_a_file_that_is_cut_short_or_in_utf16_is_one_clear_error(tmp_path: Path) -> None:
    for name, content in (
        ("a.jsonl.gz", gzip.compress(LINE * 9)),
        ("a.csv.zst", pa.compress(LINE, "zstd", asbytes=True)),
    ):
        (tmp_path / name).write_bytes(content[:-9])
        with pytest.raises(UsageError, match="cannot be read"):
            events(Recording(tmp_path / name))
    for name in ("b.csv", "b.jsonl"):
        (tmp_path / name).write_text("event_type,timestamp,user_id\n", encoding="utf-16")
        with pytest.raises(UsageError, match="UTF-8"):
            events(Recording(tmp_path / name))


def test_tab_separated_text_with_texts_that_mean_null(tmp_path: Path) -> None:
    content = "event_type\ttimestamp\tuser_id\tprice\tquantity\tcoupon\n" + (
        'page_view\t2024-03-01 12:00:00\ta, "b"\tNA\t\\N\tNA\npage_view\t2024-03-01 12:00:01\tNA\t1\t2\tx\n'
    )
    for path, form in ((tmp_path / "clicks.tsv", None), (tmp_path / "clicks.txt", "tsv")):
        path.write_text(content)
        recording = Recording(path, format=form, mapping=parse_mapping([], [], [], ["NA", "\\N"]))  # type: ignore[arg-type]
        (event,) = events(recording)
        assert (event["user_id"], event["price"], event["quantity"], event["coupon"]) == ('a, "b"', None, None, None)
        assert recording.tally.shown == ["row 2: no value for user_id"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("how", [{}, {"time": "present", "anchor": "last"}])
def test_columns_inside_nested_values(tmp_path: Path, form: str, how: dict[str, Any]) -> None:
    rows = [
        {"type": "page_view", "meta": {"at": "2024-03-01T12:00:00Z"}, "user": {"id": {"value": 7}, "country": "NA"},
         "items": [{"price": 9.5}], "a.b": "lamp"},
        {"type": "page_view", "meta": {"at": "2024-03-01T12:00:01Z"}, "user": None, "items": [], "a.b": "lamp"},
    ]  # fmt: skip
    path = tmp_path / f"clicks.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["type=event_type", "meta.at=timestamp", "user.id.value=user_id", "user.country=country",
               "items.0.price=price", "a.b=product_name"]  # fmt: skip
    recording = Recording(path, mapping=parse_mapping(columns, [], [], ["NA"]), **how)
    (event,) = events(recording)
    assert (event["user_id"], event["country"], event["price"], event["product_name"]) == ("7", None, 9.5, "lamp")
    assert event["items"] == [{"price": 9.5}], "what is not ours stays as it is"
    assert recording.tally.shown == ["row 2: no value for user_id"]


def test_a_recording_that_was_sent_before_is_found(tmp_path: Path) -> None:
    sent_before = SentRecordings(tmp_path / "home" / "sent_recordings.jsonl")
    first = Sending("abc", "shop", "id-1", "event_id", BEGIN)
    assert sent_before.find(first) == []
    sent_before.add(first)
    with sent_before.path.open("ab") as file:
        file.write(b'{"digest": "a\n')
    assert sent_before.find(first) == [first]
    assert sent_before.find(Sending("abc", "shop", "id-2", "event_id", BEGIN)) == [], "the topic was made anew"
    assert sent_before.find(Sending("xyz", "shop", "id-1", "event_id", BEGIN)) == []
    said = describe_repeat(first, [first], 60, shifted=False)
    assert "sent to shop before, last at 2024-03-01 12:00 UTC" in said and "taken out again" in said
    shifted = describe_repeat(first, [first], 60, shifted=True)
    assert "60 minutes" in shifted and "count twice" in shifted
    assert "every event will count twice" in describe_repeat(first, [first], None, shifted=False)
    other = Sending("abc", "shop", "id-1", "uuid", BEGIN)
    assert "every event will count twice" in describe_repeat(other, [first], 60, shifted=False)
