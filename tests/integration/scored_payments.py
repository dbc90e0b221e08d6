"""Runs the relay `score_payments` over a test's own topics and lakehouse, with versions of the model made by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import write_deltalake

from jobs.supervision.stream_context import build_stream_context
from platform_assets.fraud.scorecard import Part, Scorecard
from platform_assets.fraud.scoring import NO_HOLD, FraudScoring
from platform_assets.relays.score_payments import RELAY
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.engine.relay_group import RelayGroup
from platform_assets.streaming.relay_spec import RelayStream
from platform_assets.tables.fraud import FRAUD_CHAMPIONS, FRAUD_MODELS
from tests.bounded_run import LIMIT_SECONDS
from tests.integration.test_simulator import read_all

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings

# Spark's shortest.
BATCH_SECONDS = 5.0


def make_scorecard(version: int, *, large: float = 3.0, threshold: float = 0.5) -> Scorecard:
    """Large amounts and travel speak for fraud; a version of which `large` differs scores them otherwise."""
    return Scorecard(
        version, datetime(2027, 1, 1, tzinfo=UTC), threshold, slope=1.1, intercept=-0.2, baseline=-1.5,
        parts=(
            Part("ln_amount", "number", -0.3, (-1.0, 0.1, large), (0.3, 0.3, 0.3, 0.1), (math.log(10), math.log(500))),
            Part("merchant_category", "category", 0.2, (-0.4, 1.2), (0.5, 0.4, 0.1), steps={"grocery": 0, "travel": 1}),
        ),
    )  # fmt: skip


def score_by_hand(card: Scorecard, payment: Mapping[str, Any]) -> float:
    """What a version says of a payment, without Spark."""
    amount = payment.get("amount")
    rows = pa.table(
        {
            "ln_amount": pa.array([math.log(amount) if amount else None], pa.float64()),
            "merchant_category": pa.array([payment.get("merchant_category")], pa.string()),
        }
    )
    return float(card.score(rows)[0])


def make_payment(number: int, **changes: Any) -> dict[str, Any]:
    """A payment that says everything, a minute after the one of the number before."""
    at = datetime(2026, 1, 15, 8, tzinfo=UTC) + timedelta(minutes=number)
    payment = {
        "transaction_id": f"t{number}", "kind": "payment", "timestamp": at.isoformat(),
        "card_id": f"card-{number % 50}", "customer_id": f"customer-{number % 50}", "merchant_id": "m1",
        "merchant_category": ("grocery", "travel")[number % 2], "amount": (5.0, 60.21, 1200.0)[number % 3],
        "currency": "EUR", "country": "FR", "channel": "chip", "device": "d1",
    }  # fmt: skip
    return payment | changes


@dataclass
class ScoredPayments:
    """The relay, its topics and a lakehouse."""

    session: SparkSession
    kafka: KafkaResource
    lakehouse: LakehouseResource
    relay: RelayStream
    context: StreamContext

    @staticmethod
    def build(
        session: SparkSession, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings,
        topic: Callable[..., str], partitions: int = 1, hold_score: float = NO_HOLD,
    ) -> ScoredPayments:  # fmt: skip
        """Over topics of its own."""
        source = dataclasses.replace(RELAY.source, kafka_topic=topic(partitions))
        outputs = (topic(partitions), topic(partitions))
        relay = dataclasses.replace(
            RELAY, source=source, outputs=outputs, refresh_seconds=1.0,
            open=lambda context: FraudScoring(context, *outputs, hold_score=hold_score),
        )  # fmt: skip
        settings = settings.model_copy(update={"real_time_batch_seconds": BATCH_SECONDS})
        context = build_stream_context(settings, kafka, lakehouse, (), (relay,))
        return ScoredPayments(session, kafka, lakehouse, relay, context)

    def add_model(self, card: Scorecard, text: str | None = None) -> None:
        """Adds a version, or one whose scorecard is this text."""
        row = {
            "version": card.version, "trained_at": card.trained_at, "data_from": card.trained_at,
            "data_until": card.trained_at, "rows": 1, "scorecard": card.to_json() if text is None else text,
            "metrics": "{}", "verdict": "promoted",
        }  # fmt: skip
        self._append(FRAUD_MODELS, row)

    def promote(self, card: Scorecard, shadow: int | None = None, action: str = "promote") -> None:
        """Makes a version the champion, and says which one is on trial."""
        row = {
            "changed_at": datetime.now(UTC), "action": action, "champion": card.version, "shadow": shadow,
            "threshold": card.threshold, "by": "a test", "reason": "",
        }  # fmt: skip
        self._append(FRAUD_CHAMPIONS, row)

    def start(self) -> RelayGroup:
        """Starts a group, and waits until its query reads: what is sent from here on is scored."""
        group = RelayGroup(self.session, [self.relay], self.context)
        group.start()
        self.wait(group, lambda: self.has_begun(group))
        return group

    def has_begun(self, group: RelayGroup) -> bool:
        """Whether the query has planned a batch, and so knows where it begins."""
        return group._queries[self.relay.name]._checkpoint.read_next_offsets() is not None

    def send(self, values: Iterable[Mapping[str, Any] | bytes | None], partition: int = 0) -> None:
        """Sends payments, in order, and waits until the broker has them."""
        producer = self.kafka.producer()
        for value in values:
            encoded = json.dumps(value).encode() if isinstance(value, Mapping) else value
            producer.produce(self.relay.source.kafka_topic, value=encoded, partition=partition)
        assert producer.flush(30) == 0

    def scores(self) -> list[dict[str, Any]]:
        """All records of scores until now."""
        return [json.loads(value or b"") for _, _, value in read_all(self.kafka, self.relay.outputs[0])]

    def alerts(self) -> list[dict[str, Any]]:
        """All records of alerts until now."""
        return [json.loads(value or b"") for _, _, value in read_all(self.kafka, self.relay.outputs[1])]

    def wait(self, group: RelayGroup, is_true: Callable[[], bool]) -> None:
        """Lets the group run until something is true."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not is_true():
            if (failure := group.failure()) is not None:
                raise failure
            group.reconcile()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def wait_for_scores(self, group: RelayGroup, payments: int) -> list[dict[str, Any]]:
        """Waits until so many different payments have a score; gives all records of scores."""
        found: list[dict[str, Any]] = []

        def is_done() -> bool:
            found[:] = self.scores()
            return len({each["score_id"] for each in found}) >= payments

        self.wait(group, is_done)
        return found

    def _append(self, spec: Any, row: Mapping[str, Any]) -> None:
        table = create_table(self.lakehouse.table_uri(spec.name), spec, {})
        write_deltalake(table, pa.Table.from_pylist([dict(row)], build_arrow_schema(spec)), mode="append")
