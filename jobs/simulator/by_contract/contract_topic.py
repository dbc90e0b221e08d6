"""Simulates any topic by its contract: records that are valid and plausible, and mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.begun_actions import BegunActions
from jobs.simulator.by_contract.contract_faults import ContractFaults
from jobs.simulator.by_contract.contract_records import ContractRecords
from jobs.simulator.deliveries import FAULT_SHIFT, UNKNOWN_FIELDS
from jobs.simulator.delivery_habits import DeliveryHabits
from jobs.simulator.simulated_topic import SimulatedTopic
from platform_assets.errors import UsageError
from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.compression import compress
from platform_assets.streaming.topic_spec import RegistryValues, TextLines, Topic

_SECOND = 1_000_000
_ACTION = np.dtype([("at", "i8"), ("subject", "u4")])
_EXTRA = {"app_version": "5.1.0", "experiment": {"name": "layout-v2", "arm": 1}}


@dataclass(frozen=True)
class ContractProfile(DeliveryHabits):
    """Base of the profiles of topics that are simulated by their contract; `build_profile` gives a topic its own."""

    ranges: ClassVar[tuple[tuple[str, float, float], ...]] = (*DeliveryHabits.ranges, ("subjects", 1, 2_000_000))
    topic: ClassVar[Topic]

    subjects: int = 1000
    """Whose records they are: some of them send many."""
    no_match: float = 0.0005
    bad_value: float = 0.0005


@dataclass(frozen=True)
class LinesProfile(ContractProfile):
    """The profile of a topic of text lines, which have no unknown fields."""

    unknown_fields: float = 0.0


def build_profile(topic: Topic, *, by_schema: bool = False) -> type[ContractProfile]:
    """The profile of a topic, with the faults that its records can have. `by_schema`: they will be written by one.

    Raises `UsageError` for a topic of which no record can be made, or whose values are change events, or need a schema.
    """
    if isinstance(topic.values, ChangeEvents):
        raise UsageError(
            f"The values of {topic.name} are changes of a database's table, and the simulator makes none. Have the "
            "connector send them."
        )
    if isinstance(topic.values, RegistryValues) and not by_schema:
        raise UsageError(
            f"The values of {topic.name} are written by schemas of a registry. Say in which format: headrace simulate "
            f"--topic {topic.name} --encoding avro, protobuf or json-schema."
        )
    if topic.has_headers:
        raise UsageError(
            f"The records of {topic.name} are made of their headers too, and the simulator sends none. "
            "Have its own senders write to it."
        )
    faults = ContractFaults(ContractRecords(topic)).reasons
    base = LinesProfile if isinstance(topic.values, TextLines) else ContractProfile
    return type(f"ProfileOf_{topic.name}", (base,), {"topic": topic, "faults": faults})


class _Arrivals(BegunActions):
    """Records of people that do not know of each other."""

    def __init__(self, subjects: int, seed: int) -> None:
        super().__init__(1.0, _ACTION, np.random.default_rng([seed, 1]))
        self._subjects = subjects

    def _begin(self, count: int, begin: int, end: int) -> NDArray[np.void]:
        actions = np.empty(count, _ACTION)
        actions["at"] = self._rng.integers(begin, end, count)
        # The square has a quarter of the records come from a sixteenth of the subjects.
        actions["subject"] = (self._subjects * self._rng.random(count) ** 2).astype(np.int64)
        return actions


class _Encoder:
    """Implements `RecordEncoder`: the same row always gives the same bytes."""

    def __init__(self, topic: Topic, faults: tuple[str, ...]) -> None:
        self._topic, self._names = topic, faults
        self._records = ContractRecords(topic)
        self._faults = ContractFaults(self._records)

    def encode(self, rows: NDArray[np.void]) -> Iterator[tuple[int, bytes, bytes | None, int]]:
        """(sent_at in microseconds, key, value, label) for each delivery, in order."""
        names = ("sent_at", "timestamp", "id_high", "id_low", "subject", "label")
        for sent_at, micros, high, low, subject, label in zip(*(rows[name].tolist() for name in names), strict=True):
            number = high << 64 | low
            document, value = self._records.make(micros, subject, number)
            sent: bytes | None = value
            if label & UNKNOWN_FIELDS:
                sent = self._records.encode(document | _EXTRA, Random(number))
            if fault := label >> FAULT_SHIFT:
                sent = self._faults.break_record(self._names[fault - 1], document, value, high >> 8)
            if self._topic.is_list and sent is not None:
                sent = b"[%b]" % sent
            if self._topic.compression is not None and sent is not None:
                sent = compress(sent, self._topic.compression)
            yield sent_at, str(subject).encode(), sent, label


class ContractTopic(SimulatedTopic):
    """One run of a topic that is simulated by its contract."""

    action = _ACTION
    profile: ContractProfile

    def _open_actions(self) -> _Arrivals:
        return _Arrivals(self.profile.subjects, self.seed)

    def _open_encoder(self, run: int) -> _Encoder:
        return _Encoder(self.profile.topic, self.profile.faults)
