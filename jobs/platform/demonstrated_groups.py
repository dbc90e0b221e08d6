"""Which groups `headrace demo --topics` shows: those that are named, and those of a topic that is named."""

from __future__ import annotations

from platform_assets.groups import ALL, load_all_groups
from platform_assets.relays import load_relays


def name_groups(topics: str) -> str:
    """A text for HEADRACE_GROUPS. A topic stands for the group that reads it, and for that of a relay over it.

    Other names stay as they are, for the setting to refuse.
    """
    if topics.strip() == ALL:
        return ALL
    found: list[str] = []
    for name in (each.strip() for each in topics.split(",")):
        reading = [
            group.name
            for group in load_all_groups()
            if name in group.topics or any(relay.source.name == name for relay in load_relays(group.relays))
        ]
        # What reads the topic into tables first: the others need these.
        found += sorted(reading, key=lambda group: not _has_topic(group, name)) or [name]
    return ",".join(dict.fromkeys(found))


def _has_topic(group: str, topic: str) -> bool:
    return any(each.name == group and topic in each.topics for each in load_all_groups())
