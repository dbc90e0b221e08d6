"""The relay `score_payments` in its driver: which versions of the model are served, and what is known of cards.

A version is part of the query's SQL, and which of the built-in versions judges is a row of a table that each batch
reads: a promotion or a roll-back to a version that is built in needs no restart, and takes effect with a batch.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.errors import UsageError
from platform_assets.fraud.card_features import CardFeatures
from platform_assets.fraud.card_features_table import CARD_FEATURES
from platform_assets.fraud.features import FEATURES, FRAUD_DEVICES
from platform_assets.fraud.fraud_devices import FraudDevices
from platform_assets.fraud.score_rows import score_records
from platform_assets.fraud.scorecard import Scorecard
from platform_assets.fraud.streams_progress import find_reached, open_checkpoints
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.engine.lookup_rows import LookupRows
from platform_assets.tables.fraud import CARD_RELEASES, FRAUD_CHAMPIONS, FRAUD_MODELS, FRAUD_SERVING
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.scratch import make_scratch_folder
from resources.settings import load_settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.tables.spec import TableSpec

_log = logging.getLogger(__name__)

# What DuckDB takes to put the rows of 200,000 cards together, next to a JVM that is never to wait for memory.
_MEMORY_MIB = 256
# What the streams over payments need to have a payment in their tables, at least.
_STREAMS_LAG = timedelta(seconds=10)
# The champion before this one stays built in: to go back to it is urgent when it happens.
_CHAMPIONS_KEPT = 2


# Above every score: no card is held.
NO_HOLD = 2.0


class FraudScoring:
    """See the module and `streaming.relay_spec.Relay`."""

    def __init__(
        self, context: StreamContext, scores_topic: str, alerts_topic: str, hold_score: float = NO_HOLD
    ) -> None:
        self._context, self._topics = context, (scores_topic, alerts_topic)
        self._hold_score = hold_score
        self._source = context.ingest["score_payments"].topic
        self._lakehouse = LakehouseResource(root=context.lakehouse_root)
        self._open = ExitStack()
        connection = self._open.enter_context(DuckDBResource(memory_mib=_MEMORY_MIB).connected())
        self._cards = CardFeatures(self._lakehouse, connection)
        self._streams = open_checkpoints(context)
        folder = make_scratch_folder(load_settings().home / "relays")
        self._open.callback(shutil.rmtree, folder, ignore_errors=True)
        self._lookups = {
            spec.name: LookupRows(folder / spec.name, build_arrow_schema(spec).empty_table())
            for spec in (CARD_FEATURES, FRAUD_SERVING)
        }
        self._fraud_devices = FraudDevices(self._lakehouse, connection)
        self._devices: dict[str, int] | None = None
        self._scorecards: dict[int, Scorecard] = {}
        self._built_in: frozenset[int] | None = None
        self._wanted: tuple[int | None, int | None, float] = (None, None, 1.0)
        self._served: dict[str, Any] | None = None
        self._unusable: set[int] = set()
        # Empty until a person releases a card: who looks for the table finds that, and not that it is missing.
        self._attempt("The table of released cards", self._make_releases)

    def refresh(self) -> None:
        """See `Relay`. The versions that are to be served, devices of fraud, the rows of `gold.card_features`.

        A table that is damaged or away is said in the log: payments go on with what was known before, at a start with
        nothing, and their scores say so.
        """
        as_of = datetime.now(UTC) - _STREAMS_LAG
        # The versions first, and by themselves: a roll-back must not wait for cards, nor fail where they do.
        self._attempt("Which version of the model judges", self._follow_versions)
        self._attempt("Devices of reported cards", lambda: self._follow_devices(as_of))
        self._attempt("What is known of cards", lambda: self._follow_cards(as_of))

    def name_built_in(self) -> str:
        """See `Relay`."""
        return ",".join(map(str, sorted(self._scorecards)))

    def transform(self, session: SparkSession, records: DataFrame) -> DataFrame:
        """See `Relay`."""
        scorecards = [self._scorecards[version] for version in sorted(self._scorecards)]
        self._built_in = frozenset(self._scorecards)
        self._attempt("Which version of the model judges", self._serve)

        # Executors on other machines do not see the files of this one.
        is_local = str(session.sparkContext.master).startswith("local")

        def read(spec: TableSpec) -> DataFrame:
            if is_local:
                return self._lookups[spec.name].read(session)
            return session.read.format("delta").load(self._context.table_uri(spec.name))

        return score_records(
            records, read(CARD_FEATURES), read(FRAUD_SERVING), scorecards, self._topics, self._hold_score
        )

    def close(self) -> None:
        """See `Relay`."""
        self._open.close()

    def _attempt(self, what: str, follow: Callable[[], None]) -> None:
        import duckdb
        import pyarrow as pa
        from deltalake.exceptions import DeltaError

        try:
            follow()
        # A Parquet file that is cut off is an error of Arrow's.
        except (DeltaError, OSError, duckdb.Error, pa.ArrowException) as error:
            _log.warning(
                "%s could not be brought up to date, and is tried again: %s Scores go on with what was known before.",
                what, error,
            )  # fmt: skip

    def _make_releases(self) -> None:
        uri, options = self._lakehouse.table_uri(CARD_RELEASES.name), self._lakehouse.storage_options()
        create_table(uri, CARD_RELEASES, options)

    def _follow_versions(self) -> None:
        self._read_versions()
        self._serve()

    def _follow_devices(self, as_of: datetime) -> None:
        self._devices = self._fraud_devices.read(as_of)
        self._serve()

    def _follow_cards(self, as_of: datetime) -> None:
        rows = self._cards.compute(as_of, find_reached(self._streams))
        self._lookups[CARD_FEATURES.name].replace(rows)
        self._cards.write(rows)

    def _read_versions(self) -> None:
        """Which versions judge and are compared, as the newest change says, and their scorecards."""
        champions = self._lakehouse.find_table(FRAUD_CHAMPIONS.name)
        models = self._lakehouse.find_table(FRAUD_MODELS.name)
        if champions is None or models is None:
            return
        changes = sorted(champions.to_pyarrow_table().to_pylist(), key=lambda row: row["changed_at"])
        if not changes:
            return
        newest = changes[-1]
        judges = list(dict.fromkeys(row["champion"] for row in reversed(changes)))[:_CHAMPIONS_KEPT]
        wanted = {version for version in (*judges, newest["shadow"]) if version is not None}
        if missing := wanted - self._scorecards.keys() - self._unusable:
            rows = models.to_pyarrow_table(columns=["version", "scorecard"]).to_pylist()
            texts = {row["version"]: row["scorecard"] for row in rows}
            for version in sorted(missing):
                self._load(version, texts.get(version))
        self._scorecards = {version: card for version, card in self._scorecards.items() if version in wanted}
        self._wanted = (newest["champion"], newest["shadow"], newest["threshold"])

    def _load(self, version: int, text: str | None) -> None:
        """Takes up a scorecard. One that cannot be used is named in the log, and what it would judge stays unscored."""
        try:
            if text is None:
                raise UsageError(f"platform.fraud_models has no version {version}. Train the model again.")
            card = Scorecard.from_json(text)
            _demand_usable(card, version)
        except UsageError as error:
            self._unusable.add(version)
            _log.warning(
                "Version %s of the fraud model cannot be served: %s Transactions stay unscored while it is the "
                "champion: go back to another (headrace model roll-back) or train a new one.", version, error,
            )  # fmt: skip
            return
        self._scorecards[version] = card

    def _serve(self) -> None:
        """Writes which version judges, once it is built into the query that reads this, and the devices of fraud.

        In the one row that each batch joins anyway: a table more is a join more, and planning it would hold up scores.
        """
        champion, shadow, threshold = self._wanted
        if self._built_in is not None and champion is not None and champion not in {*self._built_in, *self._unusable}:
            return  # the query is about to be started again, with this version
        row: dict[str, Any] = {
            "topic": self._source, "champion": champion, "shadow": shadow, "threshold": threshold,
            FRAUD_DEVICES: self._devices,
        }  # fmt: skip
        if row == self._served:
            return
        import pyarrow as pa
        from deltalake import write_deltalake

        uri, options = self._lakehouse.table_uri(FRAUD_SERVING.name), self._lakehouse.storage_options()
        # Arrow takes a map as a list of pairs.
        devices = None if self._devices is None else list(self._devices.items())
        rows = pa.Table.from_pylist([row | {FRAUD_DEVICES: devices}], build_arrow_schema(FRAUD_SERVING))
        self._lookups[FRAUD_SERVING.name].replace(rows)
        write_deltalake(create_table(uri, FRAUD_SERVING, options), rows, mode="overwrite")
        self._served = row


def _demand_usable(card: Scorecard, version: int) -> None:
    """Raises `UsageError` for a scorecard that would end the query into which it is built."""
    if not card.parts:
        raise UsageError("It looks at no feature.")
    if card.version != version:
        raise UsageError(f"Its scorecard says that it is version {card.version}.")
    known = {(each.name, each.kind) for each in FEATURES}
    if unknown := {part.feature for part in card.parts if (part.feature, part.kind) not in known}:
        raise UsageError(f"It uses features that are not there any more: {', '.join(sorted(unknown))}.")
