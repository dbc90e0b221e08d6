"""The catalogue of alerts: every module in this folder that defines `ALERT` is one. A new alert is a new file.

HEADRACE_ALERTS says which of them are watched for.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from typing import TYPE_CHECKING

from platform_assets.errors import CatalogueError

if TYPE_CHECKING:
    from platform_assets.alerting.alert_spec import AlertSpec


def load_alerts() -> tuple[AlertSpec, ...]:
    """Every alert, in the order of their names. Raises `CatalogueError` for two of one name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    alerts = tuple(sorted((module.ALERT for module in modules), key=lambda alert: alert.name))
    for first, second in itertools.pairwise(alerts):
        if first.name == second.name:
            raise CatalogueError(f"Two files of platform_assets/alerts have an alert {first.name}. Rename one.")
    return alerts
