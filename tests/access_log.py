"""A topic of text lines: what a web server writes for each request."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from platform_assets.streaming.topic_spec import EventTime, Record, TextLines, Topic


class Request(Record):
    client: str
    at: str
    method: str
    path: str
    status: Annotated[int, Meta(ge=100, le=599)]
    size: int | None = None
    seconds: float | None = None
    is_cached: bool | None = None


TOPIC = Topic(
    name="requests",
    description="Requests to the web server.",
    kafka_topic="access-log",
    record=Request,
    event_time=EventTime("at", format="%d/%b/%Y:%H:%M:%S %z"),
    subject="client",
    event_type="method",
    values=TextLines(
        r'(?P<client>\S+) \S+ \S+ \[(?P<at>[^\]]+)\] "(?P<method>[A-Z]+) (?P<path>\S+) [^"]*" (?P<status>\S+) '
        r"(?:-|(?P<size>\S+))(?: (?P<seconds>\S+))?(?: (?P<is_cached>\S+))?"
    ),
)
