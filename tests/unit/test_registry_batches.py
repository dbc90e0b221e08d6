"""Batches of a topic with schemas, whose process dies between commits while the registry changes its answers."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.errors import GroupOwnedError, RegistryUnavailableError, UnknownSchemaError
from platform_assets.streaming.checkpoint.checkpoint import OffsetRange, PlannedBatch
from platform_assets.streaming.context import KafkaIngest, StreamContext
from platform_assets.streaming.delta.delta_tables import open_table
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaSource
from platform_assets.streaming.ingest.event_writer import EventWriter
from platform_assets.streaming.ingest.record_files import BatchOrder, WrittenRecords, write_records
from platform_assets.streaming.stream_spec import KafkaStream
from tests.unit.test_record_lists import as_kafka_batch
from tests.unit.test_registry_values import MICROS, TOPIC, Schemas, order, schema_of

# The same bytes by another name: a schema of its own.
_TEXTS = (schema_of(), schema_of(count="int"), schema_of(note=["null", "string"]))


class World:
    """The writer of the topic's stream. `dies_at`: before which of its commits the process ends, once."""

    def __init__(self, root: str) -> None:
        self.stream = KafkaStream(TOPIC, 0.0)
        self._left: int | None = None
        self.runs = 0
        self.context = StreamContext(
            root, {}, "earliest", 100, 1.0, 10_000, 3600 * 10**6, EventRules(),
            ingest={self.stream.name: KafkaIngest("t")}, check_lease=self._count, read_records=lambda *_: iter(()),
        )  # fmt: skip
        self.writer = EventWriter(self.stream, self.context)

    def _count(self) -> None:
        if self._left is not None:
            if self._left == 0:
                raise GroupOwnedError("The process dies here.")
            self._left -= 1

    def write(self, values: list[bytes], schemas: SchemaSource, dies_at: int | None) -> None:
        self.context = dataclasses.replace(self.context, schemas=schemas)
        self.writer = EventWriter(self.stream, self.context)
        planned = PlannedBatch(0, MICROS, (OffsetRange("t", 0, 0, len(values)),))
        kafka = as_kafka_batch(values, [(0, offset) for offset in range(len(values))])
        half = len(values) // 2
        parts = [each for each in (kafka.slice(0, half), kafka.slice(half)) if len(each)]

        def run(ordered: BatchOrder) -> list[WrittenRecords]:
            """Each part by a task of its own."""
            self.runs += 1
            return [write_records(dataclasses.replace(ordered, read=lambda *_: iter([part])), []) for part in parts]  # noqa: B023

        written = self.writer._read_alike(planned, self.writer._find_schemas(0, "app"), run)
        self._left = dies_at
        try:
            self.writer._write_tables(self.writer._judge(written, planned), planned, "app", None)
        finally:
            self._left = None

    def read(self) -> dict[str, list[int]]:
        """The offsets in each table, by its name without the topic's."""
        found = {}
        for table in self.stream.tables:
            rows = open_table(self.context.table_uri(table.name)).to_pyarrow_table()
            found[table.name.removeprefix("silver.").removesuffix("orders")] = sorted(rows["kafka_offset"].to_pylist())
        return found


_answers = st.frozensets(st.integers(0, 2))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=8), _answers, _answers,
    st.none() | st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_each_record_is_in_one_table_whatever_the_registry_answers_before_and_after_a_kill(
    sent: list[tuple[int, int]], first: frozenset[int], then: frozenset[int], dies_at: int | None, quarantines: bool
) -> None:
    """`first` and `then` are the ids of which the registry has no schema. At last it has all of them."""
    schemas = Schemas(_TEXTS)
    values = [schemas.write(schema_id, order(number)) for schema_id, number in sent]
    with tempfile.TemporaryDirectory() as root:
        world = World(root)
        runs = itertools.chain(
            [(first, dies_at), (then, None)], itertools.repeat((frozenset[int](), None))
        )  # the last one until it comes to its end
        for missing, dies in runs:
            source = SchemaSource(Schemas(_TEXTS, silent=missing), quarantines)
            try:
                world.write(values, source, dies)
            except (GroupOwnedError, RegistryUnavailableError):
                continue
            break
        found = world.read()
        assert sorted(itertools.chain(*found.values())) == list(range(len(values))), found
        numbers = [number for offset, (_, number) in enumerate(sent) if offset not in found["quarantined_"]]
        assert [sent[offset][1] for offset in found[""]] == list(dict.fromkeys(numbers))


@pytest.mark.parametrize("dies_at", [None, 1, 2])
def test_records_stay_in_quarantine_when_the_registry_comes_back_in_the_middle_of_their_batch(
    dies_at: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = World(str(tmp_path_factory.mktemp("lake")))
    schemas = Schemas(_TEXTS)
    values = [schemas.write(schema_id, order(number)) for schema_id, number in ((0, 1), (1, 2), (0, 1), (1, 1))]
    away = SchemaSource(Schemas(_TEXTS, silent=frozenset({1})), quarantines=True)
    if dies_at is None:
        world.write(values, away, None)
    else:
        with pytest.raises(GroupOwnedError):
            world.write(values, away, dies_at)
        world.write(values, SchemaSource(schemas, quarantines=True), None)
    assert world.read() == {"": [0], "quarantined_": [1, 3], "deduplicated_": [2]}


@dataclasses.dataclass
class Flapping:
    """A registry that has the schema 1 from the second time on that it is asked for it; each task asks anew."""

    schemas: Schemas
    asked: int = 0

    def __call__(self, schema_id: int) -> RegisteredSchema:
        if schema_id == 1:
            self.asked += 1
            if self.asked == 1:
                raise UnknownSchemaError("The registry has no schema 1.")
        return self.schemas(schema_id)

    def __hash__(self) -> int:
        return id(self)


@pytest.mark.parametrize("dies_at", [None, 1])
def test_a_schema_that_comes_within_a_batch_is_missing_in_all_of_it(
    dies_at: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = World(str(tmp_path_factory.mktemp("lake")))
    schemas = Schemas(_TEXTS)
    values = [schemas.write(schema_id, order(number)) for number, schema_id in enumerate((0, 1, 0, 1))]
    flapping = SchemaSource(Flapping(schemas))
    if dies_at is not None:
        with pytest.raises(GroupOwnedError):
            world.write(values, flapping, dies_at)
    else:
        world.write(values, flapping, None)
    assert world.runs == 2, "read once more, with one answer"
    if dies_at is not None:
        world.write(values, flapping, None)
    assert world.read() == {"": [0, 2], "quarantined_": [1, 3], "deduplicated_": []}
