"""A user is found in raw records however these are nested, encoded or cut; nobody else is taken for the user."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.register.forgotten_names import hash_user
from platform_assets.streaming.register.named_users import Mention, find_suspects, judge_fields, judge_record
from platform_assets.streaming.register.sought_names import Sought, is_weak

NONE, UNSURE, CERTAIN = Mention
USER = "user-77"
SALT = "0f" * 32


def event(user: Any = USER, **fields: Any) -> dict[str, Any]:
    return {"event_id": "e-1", "event_type": "purchase", "user_id": user, "quantity": 7, "price": 7.5, **fields}


def judge(value: bytes | str, user: str = USER, key: bytes | None = None) -> Mention:
    """Judges by the name and by its hash, which must not differ; and what is found must be suspected."""
    raw = value if isinstance(value, bytes) else value.encode(errors="surrogatepass")
    by_name = judge_record(key, raw, Sought.one(user))
    forgotten = hash_user(user, SALT)
    by_hash = Sought(lambda text: hash_user(text, SALT) == forgotten, frozenset([len(user.encode()), 5]))
    assert judge_record(key, raw, by_hash) == by_name
    if by_name != NONE and key is None:
        assert find_suspects(pa.array([raw], pa.binary()), Sought.one(user)).to_pylist() == [True]
    return by_name


@pytest.mark.parametrize(
    "value",
    [
        json.dumps(event()),
        json.dumps([event()]),
        json.dumps(json.dumps(event())),
        json.dumps(json.dumps(json.dumps([{"a": json.dumps(event())}]))),
        json.dumps({"payload": event()}),
        json.dumps({"userId": USER}),
        json.dumps({"uid": USER}),
        json.dumps({"user": {"id": USER}}),
        json.dumps({"anything": ["else", USER]}),
        json.dumps({USER: 1}),
        json.dumps(USER),
        '{"user_id": "user-77", "user_id": "bob"}',
        '{"user_id": "\\u0075ser-77"}',
        '\ufeff{"user_id": "user-77"}',
        '{"user_id": "user-77"}'.encode("utf-16"),
        json.dumps(event())[:-9],
        json.dumps(json.dumps(event()))[:-20],
        '{"user_id": "user-77',
        '{"user_id": "\\u0075ser-77", "pri',
        '"{\\"user_id\\": \\"\\\\u0075ser-77\\", \\"pri',
        "user-77",
        b"\xff user-77",
        "line\\nuser-77\\n",
        f"{json.dumps(event())}\n{json.dumps(event('bob'))}",
        "user_id=user-77&x=1",
        "<user_id>user-77</user_id>",
    ],
)
def test_a_record_of_the_user(value: bytes | str) -> None:
    assert judge(value) == CERTAIN


@pytest.mark.parametrize(
    "value",
    [
        json.dumps({"message": "the order of user-77, failed"}),
        json.dumps(event("bob", product_name="user-77")),
        json.dumps(event("bob", product_name="for user-77!")),
        json.dumps(event("bob", friends=[{"name": USER}])),
        '{"user_id": "bob", "product_name": "user-77", "pri',
    ],
)
def test_a_record_that_mentions_the_user(value: str) -> None:
    assert judge(value) == UNSURE


@pytest.mark.parametrize(
    "value",
    [
        "",
        "null",
        "77",
        "user-7",
        json.dumps(event("user-770")),
        '{"user_id": "user-77-b"',
        "xuser-77 user-77x _user-77",
    ],
)
def test_a_record_of_others(value: str) -> None:
    assert judge(value) == NONE


def test_the_key_names_the_user() -> None:
    assert judge("no JSON", key=b"user-77") == judge("x", key=b'"user-77"') == CERTAIN
    assert judge("x", key=b"user-770") == NONE
    assert judge("x", "7", key=b"7") == CERTAIN
    assert judge_record(None, None, Sought.one(USER)) == NONE


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (json.dumps(event(7)), CERTAIN),
        (json.dumps(event("7")), CERTAIN),
        (json.dumps({"data": json.dumps([{"user": {"id": 7}}])}), CERTAIN),
        ('{"user_id": 7, "quan', CERTAIN),
        ('{\\"user_id\\": \\"7\\", \\"quan', CERTAIN),
        (json.dumps(event("bob")), NONE),
        (json.dumps(event("bob", product_id="7", note="7 of 7")), NONE),
        ('{"user_id": "bob", "quantity": 7, "pr', NONE),
        (json.dumps(event(77)), NONE),
        (json.dumps(event("7-b")), NONE),
        ('{"user_id": 7-', NONE),
    ],
)
def test_a_short_number_counts_where_a_user_is_named(value: str, found: Mention) -> None:
    assert is_weak(b"7")
    assert judge(value, "7") == found


def test_a_long_number_counts_everywhere() -> None:
    assert judge('{"id": 541312140, "x": 1}', "541312140") == CERTAIN
    assert judge('{"id": 5413121401}', "541312140") == NONE


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("user anna-1 sent 5 to user bob-77", "bob-77"),
        ("member 77 of 100 done", "77"),
        ("the order of user user-77 failed", "user-77"),
    ],
)
def test_a_sentence_in_a_record_that_can_be_read_is_for_a_person(text: str, name: str) -> None:
    assert judge_record(None, json.dumps({"message": text}).encode(), Sought.one(name)) == UNSURE


@pytest.mark.parametrize("name", ['"x77"', "[77]", '{"a": 1}'])
def test_a_name_that_is_json_itself_is_found(name: str) -> None:
    assert judge_record(None, json.dumps({"user_id": name}).encode(), Sought.one(name)) == CERTAIN


def test_fields_of_a_row() -> None:
    row = [("session_id", "s-1"), ("unknown_fields", json.dumps({"via": json.dumps({"uid": USER})}))]
    assert judge_fields(row, Sought.one(USER)) == CERTAIN
    assert judge_fields([("value", b'{"user_id": "user-77')], Sought.one(USER)) == CERTAIN
    assert judge_fields([("product_name", "red shoes of user-77")], Sought.one(USER)) == UNSURE
    assert judge_fields([("product_name", "user-770")], Sought.one(USER)) == NONE


def test_what_nobody_knows_the_length_of_is_found_as_a_word() -> None:
    sought = Sought(lambda text: text == b"user-77", frozenset([None]))
    assert judge_record(None, b'{"user_id": "user-77"', sought) == judge_record(None, b"a user-77.", sought) == CERTAIN
    assert judge_record(None, b'{"user_id": "user-770"', sought) == NONE


def test_a_hostile_record_ends() -> None:
    deep = b'{"a":' * 100_000
    for value in (b"[" * 500_000, b"\\" * 500_000, b'"' * 500_000, deep + b'"user-77', b'["user-77",' * 200_000):
        judge_record(None, value, Sought(lambda text: False, frozenset([7])))
    assert judge(deep + b'"user-77"') == CERTAIN


# Names of the kinds that shops have; none is part of a word of the other texts.
names = st.sampled_from(
    ["user-77", "ann@example.com", "Jürgen Müller", "9f1c-4d", "541312140", 'o"neill\\x', "用户-9", "u 7:b"]
)
others = st.sampled_from(
    ["user-770", "bann@example.com", "1541312140", "bob", "user-7", "9f1c-4d-e", "", "Jürgen", "a\nb"]
)


def wrap(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["payload", "data", "items", "a.b", "user", "détail"])
    noise = st.one_of(others, st.integers(-9, 99), st.none(), st.booleans())
    return st.one_of(
        st.tuples(st.lists(noise, max_size=2), inner).map(lambda parts: [*parts[0], parts[1]]),
        st.tuples(keys, inner, noise).map(lambda parts: {"x": parts[2], parts[0]: parts[1]}),
        st.tuples(inner, st.booleans(), st.sampled_from([None, 1])).map(
            lambda parts: json.dumps(parts[0], ensure_ascii=parts[1], indent=parts[2])
        ),
    )


def documents(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaf, wrap, max_leaves=6)


@pytest.mark.generated
@given(names.flatmap(lambda name: st.tuples(st.just(name), documents(st.builds(event, st.just(name))))), st.booleans())
def test_a_record_is_found_however_it_is_wrapped(case: tuple[str, Any], ascii_only: bool) -> None:
    name, document = case
    text = json.dumps(document, ensure_ascii=ascii_only)
    assert judge(text, name) == CERTAIN
    if name in text:
        cut = text[: text.rindex(name) + len(name)]
        assert judge(cut, name) != NONE, "its end is missing"


@pytest.mark.generated
@given(names, documents(st.builds(event, others)))
def test_nobody_else_is_taken_for_the_user(name: str, document: Any) -> None:
    assert judge(json.dumps(document), name) == NONE


@pytest.mark.generated
@given(st.binary(max_size=200), names)
def test_whatever_the_bytes_it_is_judged(value: bytes, name: str) -> None:
    judge(value, name)
    assert judge(value + b"\0" + name.encode() + b"\0", name) != NONE


def test_a_topics_own_field_names_a_user_however_short_the_name() -> None:
    whole, cut = b'{"meter": "7", "kind": 7}', b'{"kind": 7, "meter": "7'
    anywhere, by_meter = Sought.one("7"), dataclasses.replace(Sought.one("7"), fields=frozenset(["meter"]))
    for raw in (whole, cut):
        for sought, mention in ((anywhere, NONE), (by_meter, CERTAIN)):
            assert judge_record(None, raw, sought) == mention
            assert find_suspects(pa.array([raw], pa.binary()), sought).to_pylist() == [mention == CERTAIN]
    assert judge_record(None, b'{"meter": "8", "kind": 7}', by_meter) == NONE
    assert judge_fields([("meter", "7")], by_meter) == CERTAIN


def test_a_field_inside_of_an_object_names_a_user_by_its_path() -> None:
    sought = dataclasses.replace(Sought.one("7"), fields=frozenset(["client.code"]))
    raw, other = b'{"client": {"code": 7}}', b'{"item": {"code": 7}}'
    assert [judge_record(None, value, sought) for value in (raw, other)] == [CERTAIN, NONE]
    assert find_suspects(pa.array([raw], pa.binary()), sought).to_pylist() == [True]
