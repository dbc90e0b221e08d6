"""Sends events to an OpenLineage endpoint, one at a time, within a bounded time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.errors import MissingDependencyError

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

# An endpoint that does not answer must not use up the sensor's minute.
_TIMEOUT_SECONDS = 5.0


class NotTakenError(Exception):
    """The endpoint did not take an event. The text has neither the address nor the event."""


class LineageEndpoint:
    """POSTs to `<url>/api/v1/lineage`, where Marquez and others listen. Close it."""

    def __init__(self, url: str, api_key: str = "") -> None:
        """Contacts nobody. Raises `MissingDependencyError` without OpenLineage's package."""
        try:
            from openlineage.client.transport.http import (
                ApiKeyTokenProvider,
                HttpConfig,
                HttpTransport,
                TokenProvider,
            )
        except ImportError:
            raise MissingDependencyError(
                "HEADRACE_OPENLINEAGE_URL needs the package openlineage-python. Install headrace[openlineage]."
            ) from None

        auth = ApiKeyTokenProvider({"apiKey": api_key}) if api_key else TokenProvider({})
        # Not again at once: the next tick does that, and it tells which events are due.
        config = HttpConfig(url, timeout=_TIMEOUT_SECONDS, auth=auth, retry={"total": 0})
        self._transport = HttpTransport(config)

    def send(self, event: RunEvent) -> None:
        """Returns when the endpoint has taken the event. Raises `NotTakenError`."""
        import requests

        try:
            answer = self._transport.emit(event)
        except requests.HTTPError as error:
            status = "" if error.response is None else f" {error.response.status_code}"
            raise NotTakenError(f"HTTP{status}") from None
        except requests.RequestException as error:
            raise NotTakenError(type(error).__name__) from None
        if answer.history:  # followed as a GET, which has left the event behind
            raise NotTakenError(f"HTTP {answer.history[0].status_code}, a redirect")

    def close(self) -> None:
        """Gives back its connections."""
        self._transport.close()
