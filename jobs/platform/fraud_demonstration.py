"""What `headrace demo` shows of fraud: a model learned from history, alerts on live payments, a swap and a way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from jobs.operations.explained_payments import explain_payment
from jobs.platform.model_run import train_now
from jobs.platform.run_in_process import run_quietly
from platform_assets.errors import RunFailedError
from platform_assets.fraud import champions
from platform_assets.fraud.alerts_page import ALERTS_PAGE
from platform_assets.fraud.model_register import ModelRegister
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS
from platform_assets.topics.fraud_scores import FRAUD_SCORES
from resources.account import name_account
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    from resources.settings import Settings

# Reports come days after the fraud, and a payment counts as honest three days after it: of 20 days 17 can be learned
# from. Fraud is ten times as frequent as the simulation's usual, of which there would be some 20 cases to measure by.
HISTORY_HOURS = "480"
# Of 20,000 customers each would have paid four times by then, and nothing would be usual for a card.
_FEW_CUSTOMERS = ("--habit", "customers=2000")
HISTORY_OPTIONS = ("--rate", "0.05", "--habit", "fraud=0.02", *_FEW_CUSTOMERS)
# With 50 a second each card would pay each minute, and one payment in four was an alert: in the history none did.
LIVE_RATE = "3"
# So that somebody who looks on sees some alerts within a minute.
LIVE_OPTIONS = ("--habit", "fraud=0.03", *_FEW_CUSTOMERS)
_ALERTS_TO_SHOW = 3


def has_scoring(groups: Sequence[StreamGroup]) -> bool:
    """Whether these groups score payments, and bring what becomes of them into tables."""
    tables = {table for group in groups for stream in group.streams for table in stream.tables}
    return any(group.relays for group in groups) and FRAUD_ALERTS in tables


class FraudDemonstration:
    """Steps of the demonstration, each of which says in a sentence what it has done."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lakehouse = LakehouseResource.from_settings(settings)
        self._register = ModelRegister(self._lakehouse)

    def train(self) -> str:
        """Trains a version from the history. Raises `HeadraceError`."""
        with dg.DagsterInstance.get() as instance:
            return train_now(instance, self._settings)

    def count_scores(self) -> tuple[int, int]:
        """Whether a score by the champion is in its table, of the one that is waited for."""
        held = self._register.read_holder()
        versions = self._read(FRAUD_SCORES.name, "model_version")
        return int(held is not None and held.champion in versions), 1

    def count_alerts(self) -> tuple[int, int]:
        """Alerts in their table, and how many are waited for."""
        return min(len(self._read(FRAUD_ALERTS.name, "score_id")), _ALERTS_TO_SHOW), _ALERTS_TO_SHOW

    def explain_alert(self) -> list[str]:
        """What `headrace explain --payment` says of the alert with the highest score."""
        found = self._lakehouse.delta_table(FRAUD_ALERTS.name).to_pyarrow_table(columns=["score_id", "score"])
        worst = found.sort_by([("score", "descending")])["score_id"][0].as_py()
        return [f"headrace explain --payment {worst}", *explain_payment(self._lakehouse, worst)]

    def swap(self) -> str:
        """Makes the newest version the champion, and goes back to the one before. Raises `HeadraceError`."""
        newest, by = self._register.read_models()[-1].version, name_account()
        promoted = champions.promote_version(self._lakehouse, self._settings, newest, by, anyway=True)
        back = champions.roll_back(self._lakehouse, self._settings, by, "shown in the demonstration")
        return f"Version {promoted.champion} was promoted, and rolled back to version {back.champion}"

    def write_page(self) -> str:
        """Writes the page of the newest alerts, as the job does each hour. Raises `RunFailedError`."""
        with dg.DagsterInstance.get() as instance:
            if not run_quietly("fraud_alerts_page", instance).success:
                raise RunFailedError("The page of alerts could not be written: the run fraud_alerts_page says why.")
        return f"The alerts as a page: {self._settings.lakehouse}/{ALERTS_PAGE}"

    def _read(self, table: str, column: str) -> list[object]:
        found = self._lakehouse.find_table(table)
        return [] if found is None else found.to_pyarrow_table(columns=[column])[column].to_pylist()
