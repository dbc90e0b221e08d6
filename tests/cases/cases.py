"""What real shops send that is not as it should be: one row a case, with its source in words and the right outcome."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from platform_assets.streaming.event_rules import EventRules

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

Event = dict[str, Any]
_numbers = itertools.count()


@dataclass(frozen=True)
class Case:
    """`parts` are sent one after the other, each followed by a run of `streams` to its end.

    `outcome` are queries over all tables (`silver_events`, ...) with the rows that they must give; `failing` the checks
    of silver.events that must not pass, all others must.
    """

    name: str
    source: str
    parts: Sequence[Sequence[Event]]
    outcome: Mapping[str, Sequence[tuple[Any, ...]]]
    streams: tuple[str, ...] = ("sessions",)
    settings: Mapping[str, Any] = field(default_factory=dict)


def event(user: str, at: datetime, kind: str = "page_view", **fields: Any) -> Event:
    """An event with an id of its own."""
    body = {"event_id": f"e{next(_numbers)}", "event_type": kind, "timestamp": at.isoformat(), "user_id": user}
    return body | {"product_id": "p", "category": "toys"} | fields


def _shop(begin: datetime, minutes: int, users: int = 8) -> list[Event]:
    """Each minute an event, of one user after the other; a user pauses for longer than a session's end allows."""
    return [event(f"u{m // 5 % users}", begin + m * MINUTE) for m in range(minutes)]


def _twice_with_one_id() -> list[Event]:
    first = event("alice", NOW - HOUR, "purchase", revenue=10.0)
    return [first, event("bob", NOW - HOUR, "purchase", revenue=30.0, event_id=first["event_id"])]


_MORNING = _shop(NOW - 6 * HOUR, 240)
_RESENT = [event(f"u{n}", NOW - 5 * HOUR, "purchase", revenue=1.0, event_id=f"again{n}") for n in range(50)]

CASES = (
    Case(
        name="all clocks are two hours ahead",
        source="A shop in a zone east of UTC sends its local time as if it were UTC: nothing ever became final.",
        parts=[
            [e | {"timestamp": (datetime.fromisoformat(e["timestamp"]) + 6 * HOUR).isoformat()} for e in part]
            for part in (_MORNING[:120], _MORNING[120:])
        ],
        outcome={
            "select count(*) from silver_events": [(240,)],
            "select complete_until is not null from platform_complete_until where query = 'sessions'": [(True,)],
        },
    ),
    Case(
        name="event ids that are none",
        source="Clients send empty ids, the nil UUID, or what JavaScript and pandas make of a missing one: all but the "
        "first of thousands were taken for repeats.",
        parts=[
            [
                event(f"u{n}", NOW - HOUR, "purchase", revenue=10.0, event_id=event_id)
                for n, event_id in enumerate(
                    ["", " ", "null", "undefined", "NaN", "None", "0", "00000000-0000-0000-0000-000000000000", "ok"]
                )
            ]
        ],
        outcome={
            "select event_id from silver_events": [("ok",)],
            "select reason, count(*) from silver_quarantined_events group by all": [("missing_field", 8)],
            "select count(*) from silver_deduplicated_events": [(0,)],
        },
        streams=(),
    ),
    Case(
        name="one id for two events",
        source="Two devices count their events from 1: the second one's purchase was gone without a trace.",
        parts=[_twice_with_one_id()],
        outcome={
            "select user_id from silver_events": [("alice",)],
            "select is_same_content, content::json->>'revenue', other_user_id from silver_deduplicated_events": [
                (False, "30.0", "bob")
            ],
        },
        streams=(),
    ),
    Case(
        name="the same events after the horizon",
        source="An app that was offline sends its queue again, hours later: revenue was doubled.",
        parts=[_RESENT, _RESENT[:30]],
        outcome={
            "select count(*), sum(revenue)::int from silver_events": [(50, 50)],
            "select count(*), bool_and(is_same_content) from silver_deduplicated_events": [(30, True)],
            "select sum(event_count)::int from gold_sessions where user_id != 'closer'": [(50,)],
        },
        settings={"deduplication_horizon_micros": 1_000, "close_windows": True},
    ),
    Case(
        name="a session that never pauses, and one event of it that is late",
        source="A kiosk sends an event a minute, and one comes an hour late: no day of the shop became final.",
        parts=[
            [*_MORNING, *(event("kiosk", NOW - 6 * HOUR + m * MINUTE) for m in range(240))],
            [event("kiosk", NOW - 5 * HOUR + MINUTE / 2), *_shop(NOW - 2 * HOUR, 100)],
            [event("kiosk", NOW - 20 * MINUTE)],
        ],
        outcome={
            "select complete_until = watermark, late_events_pending from platform_complete_until "
            "where query = 'sessions'": [(True, 0)],
            "select event_count::int from gold_sessions where user_id = 'kiosk'": [(241,)],
        },
    ),
    Case(
        name="a device of the year 2000",
        source="A device lost its clock's battery: what it sent held up the completeness of everything since.",
        parts=[
            [*_MORNING],
            [event("reset", datetime(2000, 1, 2, tzinfo=UTC)), *_shop(NOW - 2 * HOUR, 60)],
            [event("closer", NOW - MINUTE)],
        ],
        outcome={
            "select complete_until > now() - interval 1 hour from platform_complete_until where query = 'sessions'": [
                (True,)
            ],
            "select event_count::int from gold_sessions where user_id = 'reset'": [(1,)],
        },
    ),
    Case(
        name="guests share a user id",
        source="Visitors who are not logged in are all 'guest', or '': one batch had millions of pairs of them.",
        parts=[
            [
                event(user, NOW - 3 * HOUR + n * MINUTE / 10, kind, revenue=1.0)
                for user in ("guest", "")
                for kind in ("page_view", "purchase")
                for n in range(100)
            ]
            + [event("u", NOW - MINUTE)]
        ],
        outcome={
            "select count(*) filter (is_anonymous) from silver_events": [(400,)],
            "select count(*) from gold_view_to_purchase": [(0,)],
            "select count(*) from gold_sessions where user_id != 'u'": [(0,)],
            "select sum(purchase_count)::int from gold_revenue_by_category": [(2 * 200,)],
        },
        streams=("sessions", "view_to_purchase", "revenue_by_category"),
    ),
    Case(
        name="amounts of two currencies, and none",
        source="A shop that sells in euros and in yen had 12,100 of something, and what has no amount counted as 0.",
        parts=[
            [
                event("u", NOW - HOUR, "purchase", revenue=100.0, currency="EUR"),
                event("u", NOW - HOUR, "purchase", revenue=12000.0, currency="jpy"),
                event("u", NOW - HOUR, "purchase", price=20.0, quantity=3),
                event("closer", NOW),
            ]
        ],
        outcome={
            "select currency, revenue from silver_events where event_type = 'purchase' order by kafka_offset": [
                ("EUR", 100.0),
                ("JPY", 12000.0),
                (None, None),
            ],
            "select distinct currency, total_revenue, purchases_without_amount::int from gold_revenue_by_category "
            "order by currency": [("EUR", 100.0, 0), ("JPY", 12000.0, 0), (None, None, 1)],
            "select total_revenue, revenue_by_currency, purchases_without_amount::int from gold_sessions": [
                (None, '{"EUR":"100.00","JPY":"12000.00"}', 1)
            ],
        },
        streams=("sessions", "revenue_by_category"),
    ),
    Case(
        name="local time without an offset",
        source="A shop in Berlin writes its wall clock: all hours of a day were shifted.",
        parts=[
            [
                event("u", NOW) | {"timestamp": "2026-07-01T12:00:00"},
                event("u", NOW) | {"timestamp": "2026-01-01T12:00:00"},
            ]
        ],
        outcome={
            "select strftime(event_time, '%m-%d %H:%M') from silver_events order by event_time": [
                ("01-01 11:00",),
                ("07-01 10:00",),
            ],
        },
        streams=(),
        settings={"event_rules": EventRules(time_zone="Europe/Berlin")},
    ),
)
