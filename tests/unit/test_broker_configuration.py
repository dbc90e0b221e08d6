"""What the embedded broker is started with."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from resources.broker_configuration import new_cluster_id, server_properties


def test_cluster_id_never_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(7)
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=source.getrandbits(128)))
    identifiers = {new_cluster_id() for _ in range(500)}
    assert len(identifiers) == 500
    assert all(len(identifier) == 22 and not identifier.startswith("-") for identifier in identifiers)


def test_broker_listens_on_the_loopback_interface_only() -> None:
    properties = server_properties(Path("/home/broker"), 9092, 9093)
    addresses = [listener.split("://")[1] for listener in properties["listeners"].split(",")]
    assert addresses == ["127.0.0.1:9092", "127.0.0.1:9093"]
    assert properties["auto.create.topics.enable"] == "false"
    assert int(properties["message.max.bytes"]) >= 8 * 1024 * 1024
    assert int(properties["replica.fetch.max.bytes"]) >= int(properties["message.max.bytes"])
