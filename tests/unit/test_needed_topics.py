"""Which topics the groups need; `headrace topics` against a broker is in the tests of the container stack."""

from __future__ import annotations

import pytest

from jobs.operations.needed_topics import NeededTopic, list_needed
from platform_assets.relays import load_relays
from platform_assets.streams import load_all_stream_groups
from resources.settings import Settings

GROUPS = {group.name: group for group in load_all_stream_groups()}


def test_the_shops_topics_are_those_of_the_settings() -> None:
    needed = list_needed([GROUPS["clickstream"]], Settings(topic="shop"))
    assert [(topic.name, topic.is_read, topic.is_compacted) for topic in needed] == [
        ("shop", True, False), ("high-value-users", False, True),
    ]  # fmt: skip
    unpublished = list_needed([GROUPS["clickstream"]], Settings(topic="shop", publish=False))
    assert [topic.name for topic in unpublished] == ["shop"]


@pytest.mark.parametrize("names", [tuple(GROUPS), tuple(reversed(GROUPS))])
def test_all_groups_topics_are_named_once_and_answers_follow_what_they_answer(names: tuple[str, ...]) -> None:
    settings = Settings()
    needed = list_needed([GROUPS[name] for name in names], settings)
    names_of = [topic.name for topic in needed]
    assert len(set(names_of)) == len(names_of)
    wanted = {stream.topic.kafka_topic or settings.topic for group in GROUPS.values() for stream in group.ingest}
    wanted |= {stream.publish_topic for group in GROUPS.values() for stream in group.derived if stream.publish_topic}
    for relay in load_relays(name for group in GROUPS.values() for name in group.relays):
        wanted |= {relay.source.kafka_topic, *relay.outputs}
    assert set(names_of) == wanted
    scores = next(topic for topic in needed if topic.name == "fraud-scores")
    assert scores == NeededTopic("fraud-scores", "score_payments", answered="card-transactions")
    assert names_of.index("card-transactions") < names_of.index("fraud-scores")
