"""Puts another version in charge: by hand, a day after its training when it stood the comparison, or back again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.errors import NotReadyError, UsageError
from platform_assets.fraud.live_scores import compare_live
from platform_assets.fraud.model_register import PROMOTE, ROLL_BACK, ChampionRow, ModelRegister
from platform_assets.fraud.promotion import REFUSED, judge_shadow
from platform_assets.fraud.versions import ModelVersions

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb

    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings


def promote_version(
    lakehouse: LakehouseResource, settings: Settings, version: int, by: str, *, anyway: bool = False
) -> ChampionRow:
    """Makes a version the champion, as somebody asks for it; 0: the shadow, without waiting for its day.

    Raises `UsageError` for a version that was refused, unless `anyway`; for one that is not there or is champion
    already; and for 0 without a shadow.
    """
    register = ModelRegister(lakehouse)
    held = register.read_holder()
    if not version:
        if held is None or held.shadow is None:
            raise UsageError("There is no shadow to promote. Name a version; `headrace model list` has them.")
        version = held.shadow
    if held is not None and held.champion == version:
        raise UsageError(f"Version {version} is the champion already.")
    verdicts = {row.version: row.verdict for row in register.read_models()}
    verdict = verdicts.get(version, "")
    if verdict.startswith(REFUSED) and not anyway:
        raise UsageError(f"Version {version} was {verdict} To promote it all the same, say anyway.")
    shadow = None if held is None or held.shadow == version else held.shadow
    return _change(register, settings, PROMOTE, version, shadow, by, "as asked for")


def promote_shadow_when_due(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection, settings: Settings, by: str, now: datetime
) -> tuple[ChampionRow | None, str]:
    """Makes the shadow the champion if its time has come and it stood the comparison; says why or why not."""
    register = ModelRegister(lakehouse)
    held = register.read_holder()
    if held is None or held.shadow is None:
        return None, "There is no shadow."
    since = _find_shadow_begin(register, held)
    cards = [register.read_scorecard(version) for version in (held.champion, held.shadow)]
    live = compare_live(lakehouse, connection, cards[0], cards[1], since)
    is_due, said = judge_shadow(since, now, live)
    if not is_due:
        return None, said
    return _change(register, settings, PROMOTE, held.shadow, None, by, said), said


def roll_back(lakehouse: LakehouseResource, settings: Settings, by: str, reason: str = "") -> ChampionRow:
    """Puts the champion before the current one back in charge; asked again, the one before that.

    The shadow is dropped: what is wrong with the champion may be wrong with it. Raises `NotReadyError` for none before.
    """
    register = ModelRegister(lakehouse)
    stack: list[int] = []
    for change in register.read_changes():
        if change.action == PROMOTE:
            stack.append(change.champion)
        elif change.action == ROLL_BACK:
            stack.pop()
    if len(stack) < 2:
        raise NotReadyError("There is no champion before this one to go back to. Train or promote another version.")
    said = reason or f"back from version {stack[-1]}"
    return _change(register, settings, ROLL_BACK, stack[-2], None, by, said)


def _find_shadow_begin(register: ModelRegister, held: ChampionRow) -> datetime:
    """Finds since when these two versions have been scored along with each other."""
    since = held.changed_at
    for change in reversed(register.read_changes()):
        if (change.champion, change.shadow) != (held.champion, held.shadow):
            break
        since = change.changed_at
    return since


def _change(
    register: ModelRegister, settings: Settings, action: str, champion: int, shadow: int | None, by: str, reason: str
) -> ChampionRow:
    """The register first: it is what judges payments, and must change even while MLflow is away."""
    change = register.change(action, champion, shadow, by, reason)
    ModelVersions(settings).name_holders(change.champion, change.shadow)
    return change
