"""The catalogue of relays: every module in this folder that defines `RELAY` is one. A new relay is a new file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from platform_assets.errors import CatalogueError
from platform_assets.streaming.relay_spec import RelayStream


def load_relays(names: Iterable[str]) -> tuple[RelayStream, ...]:
    """The relays of these names, in their order. Raises `CatalogueError` for a name that no file has."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    known: dict[str, RelayStream] = {module.RELAY.name: module.RELAY for module in modules}
    wanted = tuple(names)
    if missing := [name for name in wanted if name not in known]:
        raise CatalogueError(f"There is no relay {', '.join(missing)}. There are: {', '.join(known)}.")
    return tuple(known[name] for name in wanted)
