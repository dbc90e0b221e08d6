"""Reads and writes the register of models: `platform.fraud_models` and `platform.fraud_champions`.

Rows are only added. Each carries its number as a Delta transaction: of two writers that add the same one at once Delta
lets one through.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.errors import NotReadyError, UsageError
from platform_assets.fraud.scorecard import Scorecard
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table, name_transaction
from platform_assets.tables.fraud import FRAUD_CHAMPIONS, FRAUD_MODELS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource

_TICK = timedelta(microseconds=1)

PROMOTE, ROLL_BACK, SHADOW = "promote", "roll_back", "shadow"


@dataclass(frozen=True)
class ModelRow:
    """One row of `platform.fraud_models`."""

    version: int
    trained_at: datetime
    data_from: datetime
    data_until: datetime
    rows: int
    scorecard: str
    metrics: str
    verdict: str


@dataclass(frozen=True)
class ChampionRow:
    """One row of `platform.fraud_champions`."""

    changed_at: datetime
    action: str
    champion: int
    shadow: int | None
    threshold: float
    by: str
    reason: str


class ModelRegister:
    """Both tables of one lakehouse. They are made with the first row."""

    def __init__(self, lakehouse: LakehouseResource) -> None:
        self._lakehouse = lakehouse

    def read_models(self) -> list[ModelRow]:
        """Every version, oldest first."""
        return sorted((ModelRow(**row) for row in self._read(FRAUD_MODELS)), key=lambda row: row.version)

    def read_changes(self) -> list[ChampionRow]:
        """Every change, oldest first; the last one holds."""
        return sorted((ChampionRow(**row) for row in self._read(FRAUD_CHAMPIONS)), key=lambda row: row.changed_at)

    def read_holder(self) -> ChampionRow | None:
        """The change that holds; None before the first promotion."""
        changes = self.read_changes()
        return changes[-1] if changes else None

    def read_scorecard(self, version: int) -> Scorecard:
        """The version's scorecard. Raises `UsageError` for a version that was never trained."""
        for row in self.read_models():
            if row.version == version:
                return Scorecard.from_json(row.scorecard)
        raise UsageError(f"There is no version {version} of the fraud model. `headrace model list` names them.")

    def next_version(self) -> int:
        """The number that the next version gets."""
        return max((row.version for row in self.read_models()), default=0) + 1

    def add_model(self, row: ModelRow) -> None:
        """Adds a version. Raises `NotReadyError` when another training has added one of this number meanwhile."""
        self._append(FRAUD_MODELS, asdict(row), row.version)

    def change(self, action: str, champion: int, shadow: int | None, by: str, reason: str) -> ChampionRow:
        """Makes `champion` the version that judges payments from now on, and `shadow` the one that is compared.

        Raises `UsageError` for a version that was never trained, `NotReadyError` when somebody else changes it now.
        """
        threshold = self.read_scorecard(champion).threshold
        changes = self.read_changes()
        # Never before the change that it follows, even if this machine's clock is behind another one's.
        now = max([datetime.now(UTC), *(change.changed_at + _TICK for change in changes)])
        row = ChampionRow(now, action, champion, shadow, threshold, by, reason)
        self._append(FRAUD_CHAMPIONS, asdict(row), len(changes) + 1)
        return row

    def _read(self, spec: TableSpec) -> list[dict[str, Any]]:
        table = self._lakehouse.find_table(spec.name)
        return [] if table is None else table.to_pyarrow_table().to_pylist()

    def _append(self, spec: TableSpec, row: dict[str, Any], number: int) -> None:
        import pyarrow as pa
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        app = f"headrace/{spec.name}"
        table = create_table(self._lakehouse.table_uri(spec.name), spec, self._lakehouse.storage_options())
        taken = table.transaction_version(app)
        try:
            if taken is not None and taken >= number:
                raise CommitFailedError(f"number {number} is taken")
            write_deltalake(
                table, pa.Table.from_pylist([row], build_arrow_schema(spec)), mode="append",
                commit_properties=CommitProperties(app_transactions=[name_transaction(app, number)]),
            )  # fmt: skip
        except CommitFailedError as error:
            raise NotReadyError(
                f"{spec.name}: somebody else has changed it at the same time ({error}). Look at it, then try again."
            ) from None
