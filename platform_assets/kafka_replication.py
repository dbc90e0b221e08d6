"""How often Kafka keeps a topic's records, and whether that suits: no acknowledged record is lost with one broker."""

from __future__ import annotations

from dataclasses import dataclass

# With two, either each restart of a broker stops the writers, or the loss of one broker takes records with it.
_REPLICAS = 3
_IN_SYNC = 2


@dataclass(frozen=True)
class Replication:
    """The least number of replicas that a partition of the topic has, and the topic's rules for them."""

    brokers: int
    replicas: int
    min_in_sync: int
    is_unclean_allowed: bool
    """Whether a replica that lacks acknowledged records may lead a partition."""


def find_weaknesses(found: Replication) -> list[str]:
    """What can go wrong and what to set instead, a sentence each. Of a cluster of one broker nothing is asked.

    A cluster of which one broker alone is up is told from it where the topic has replicas on others.
    """
    if found.brokers == 1 and found.replicas == 1:
        return []
    weak = []
    if found.replicas < _REPLICAS:
        weak.append(
            f"A partition has {found.replicas} of the {_REPLICAS} replicas that keep it readable and writable while "
            "one broker is down: reassign its replicas (kafka-reassign-partitions.sh)."
        )
    if found.replicas > 1 and found.min_in_sync < _IN_SYNC:
        weak.append(
            "A record is acknowledged when one broker has it (min.insync.replicas=1), and is lost with that broker: "
            f"set it to {_IN_SYNC}."
        )
    if found.replicas > 1 and found.min_in_sync >= found.replicas:
        weak.append(
            f"All {found.replicas} replicas must be in sync (min.insync.replicas={found.min_in_sync}), so that nothing "
            "can be written while one broker is down: set it to one less than there are replicas."
        )
    if found.is_unclean_allowed:
        weak.append(
            "A replica that is behind may lead (unclean.leader.election.enable=true), which removes acknowledged "
            "records: set it to false."
        )
    return weak
