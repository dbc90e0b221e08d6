"""The servers that Headrace brings itself, as far as the settings want them: the broker, and the schema registry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from resources.embedded.broker import running_broker
from resources.embedded.registry import running_registry
from resources.registry_settings import EMBEDDED
from resources.settings import Settings


@contextlib.contextmanager
def running_servers(settings: Settings) -> Iterator[None]:
    """Has the embedded servers run for the block, in use by this process. Errors as `EmbeddedServer.start`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(running_broker(settings))
        if settings.schema_registry_url == EMBEDDED:
            stack.enter_context(running_registry(settings))
        yield
