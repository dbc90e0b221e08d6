"""Which alerts the settings want, as a group next to those of the streams, the sinks and the published topics."""

from __future__ import annotations

from collections.abc import Sequence

from platform_assets.alerting.alert_spec import AlertSpec, name_alert_query, name_channel_query
from platform_assets.alerting.channels import name_channels
from platform_assets.alerts import load_alerts
from platform_assets.errors import CatalogueError, SettingError
from platform_assets.publishing import catalogue as publishing
from platform_assets.sinks import catalogue as sinks
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings, load_settings

GROUP_NAME = "alerts"
ALL = "all"


def load_groups() -> tuple[StreamGroup, ...]:
    """The groups that `publishing.catalogue` gives, and last the group `alerts` where HEADRACE_ALERTS names some.

    Last, so that a drain of one after the other has written the tables before. Raises as those, and `SettingError` for
    an alert that there is not, or whose table no enabled group writes.
    """
    groups, settings = publishing.load_groups(), load_settings()
    if not settings.alerts.strip():
        if name_channels(settings):
            raise SettingError(
                "HEADRACE_ALERTS is empty, so that a channel has nothing to tell. Name alerts, or write all."
            )
        return groups
    if any(group.name == GROUP_NAME for group in groups):
        raise CatalogueError(
            f"The group {GROUP_NAME} of platform_assets/groups has the name of the alerts' one. Rename it."
        )
    demand_addresses(settings)
    alerts = select_alerts(groups, settings.alerts)
    names = (*(name_alert_query(spec.name) for spec in alerts), *map(name_channel_query, name_channels(settings)))
    return (*groups, StreamGroup(GROUP_NAME, (), f"closed_days_{GROUP_NAME}", alerts=names))


def select_alerts(groups: Sequence[StreamGroup], enabled: str) -> tuple[AlertSpec, ...]:
    """The alerts that a text like that of HEADRACE_ALERTS names; `all`: those whose tables these groups write."""
    known = {spec.name: spec for spec in load_alerts()}
    written = set(sinks.list_tables(groups))
    if enabled.strip() == ALL:
        return tuple(spec for spec in known.values() if spec.table.name in written)
    names = list(dict.fromkeys(name for each in enabled.split(",") if (name := each.strip())))
    if unknown := [name for name in names if name not in known]:
        raise SettingError(
            f"HEADRACE_ALERTS: there is no alert {', '.join(unknown)}. There are: {', '.join(known)}. Write names with "
            f"commas between, or {ALL}."
        )
    if idle := [name for name in names if known[name].table.name not in written]:
        raise SettingError(
            f"HEADRACE_ALERTS: no enabled group writes the table of {', '.join(idle)}: "
            f"{', '.join(known[name].table.name for name in idle)}. Enable it by HEADRACE_GROUPS."
        )
    return tuple(known[name] for name in names)


def demand_addresses(settings: Settings) -> None:
    """Raises `SettingError` where mails are wanted and have no sender or receiver."""
    if not settings.alerts_smtp_url.get_secret_value():
        return
    addresses = {
        "HEADRACE_ALERTS_MAIL_FROM": settings.alerts_mail_from, "HEADRACE_ALERTS_MAIL_TO": settings.alerts_mail_to
    }  # fmt: skip
    for name, value in addresses.items():
        if not value.strip():
            raise SettingError(f"{name} is empty, and HEADRACE_ALERTS_SMTP_URL is not. Name an address.")
