"""Sends JSON to a webhook: whether it was taken is known, and its address, which is a secret, is in no error."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import IO, Any

# A webhook that does not answer must not use up a sensor's minute.
_TIMEOUT_SECONDS = 5.0


class NotTakenError(Exception):
    """The webhook did not take a message."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves each redirect to the handler of errors: followed, it would be a GET without the message."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> None:
        """Does nothing: `_NoRedirects` leaves redirects to the handler of errors."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


_opener = urllib.request.build_opener(_NoRedirects)


def post(url: str, message: Mapping[str, Any]) -> None:
    """Sends the message; only an answer of the 200s from the webhook itself is a yes.

    Raises `NotTakenError`, without the address.
    """
    request = urllib.request.Request(url, json.dumps(message).encode(), {"Content-Type": "application/json"})
    try:
        with _opener.open(request, timeout=_TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        with error:
            redirected = ", a redirect, which is not followed" if 300 <= error.code < 400 else ""
            raise NotTakenError(f"HTTP {error.code}{redirected}") from None
    except http.client.HTTPException as error:  # its text repeats what was sent or received
        raise NotTakenError(f"no answer in HTTP, {type(error).__name__}") from None
    except (urllib.error.URLError, OSError) as error:
        raise NotTakenError(str(getattr(error, "reason", error))) from None
