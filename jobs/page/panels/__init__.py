"""The catalogue of panels: every module in this folder that defines `PANEL`, by their order."""

from __future__ import annotations

import importlib
import pkgutil

from jobs.page.panel import Panel


def load_panels() -> tuple[Panel, ...]:
    """All panels, in the order of the page."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return tuple(sorted((module.PANEL for module in modules), key=lambda panel: (panel.order, panel.name)))
