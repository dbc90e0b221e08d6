"""The check that there is a backup that can be restored, and that it is young enough. Made where backups have a place.

The restore itself is rehearsed by the nightly job, which copies all of a lakehouse: the check reads its verdict.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from platform_assets.folders import Folder
from platform_assets.kept_backups import KeptBackup, list_backups
from platform_assets.tables.platform import LEDGER

BACKUP_RESTORED = "backup_restored"


# Hosts' clocks differ by less. A backup that is dated later was made while a clock was ahead: it may be of any age.
_CLOCKS_DIFFER = timedelta(hours=1)


def judge(backups: Sequence[KeptBackup], now: datetime, max_age: timedelta) -> dg.AssetCheckResult:
    """The verdict over the whole backups of a place, oldest first; one that is dated ahead is left out."""
    backups = [backup for backup in backups if backup.manifest.created_at <= now + _CLOCKS_DIFFER]
    if backups and (newest := backups[-1].rehearsal) is not None and not newest.passed:
        why = f"The newest backup, {backups[-1].name}, could not be restored: {newest.breaches[0]}"
        return dg.AssetCheckResult(passed=False, description=why, metadata={"breaches": len(newest.breaches)})
    proved = [backup for backup in backups if backup.rehearsal is not None and backup.rehearsal.passed]
    if not proved:
        return dg.AssetCheckResult(passed=False, description="There is no backup that was restored for a trial.")
    newest_proved = proved[-1]
    age = now - newest_proved.manifest.created_at
    said = f"The newest backup that was restored for a trial, {newest_proved.name}, is {_hours(age)} old"
    metadata = {
        "backup/hours": age / timedelta(hours=1), "backup/kept": len(backups),
        "backup/tables": len(newest_proved.manifest.tables), "backup/bytes": newest_proved.manifest.size_bytes,
    }  # fmt: skip
    if age <= max_age:
        return dg.AssetCheckResult(passed=True, description=f"{said}.", metadata=metadata)
    why = f"{said}, and none is to be older than {_hours(max_age)}. The runs of the job back_up_lakehouse say why."
    return dg.AssetCheckResult(passed=False, description=why, metadata=metadata)


def build_backup_check(open_place: Callable[[], Folder], max_age: timedelta) -> dg.AssetChecksDefinition:
    """Builds `backup_restored`; `open_place` opens the folder of the nightly backups, at each run of it."""

    @dg.asset_check(
        asset=list(LEDGER.asset_path),
        name=BACKUP_RESTORED,
        description=f"A backup not older than {_hours(max_age)} was restored for a trial, and was whole.",
    )
    def backup_restored() -> dg.AssetCheckResult:
        return judge(list_backups(open_place()), datetime.now(UTC), max_age)

    return backup_restored


def _hours(time: timedelta) -> str:
    return f"{time / timedelta(hours=1):.0f} hours"
