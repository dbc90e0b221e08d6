"""Texts for fields that say no more than that they are texts: by the words in their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

_COUNTRIES = ("DE", "FR", "IT", "ES", "PL", "US", "GB", "JP")
_CURRENCIES = ("EUR", "USD", "GBP", "JPY")
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "larch")
_CITIES = ("Berlin", "Lyon", "Milan", "Seville", "Gdansk", "Boston", "Leeds", "Osaka")
_AGENTS = ("Mozilla/5.0 (X11; Linux x86_64)", "curl/8.5.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0)")
# Things of which there are few, each in many records.
_POOL = 50

_BY_WORD: tuple[tuple[tuple[str, ...], Callable[[Random], str]], ...] = (
    (("country",), lambda random: random.choice(_COUNTRIES)),
    (("currency",), lambda random: random.choice(_CURRENCIES)),
    (("city", "town"), lambda random: random.choice(_CITIES)),
    (("email", "mail"), lambda random: f"{random.choice(_WORDS)}{random.randrange(_POOL)}@example.org"),
    (("ip", "client", "address"), lambda random: f"10.0.{random.randrange(4)}.{random.randrange(256)}"),
    (("url", "uri", "referrer", "referer"), lambda random: f"https://www.example.org/{random.choice(_WORDS)}"),
    (("path",), lambda random: f"/{random.choice(_WORDS)}/{random.randrange(_POOL)}"),
    (("agent",), lambda random: random.choice(_AGENTS)),
    (("method",), lambda random: random.choice(("GET", "GET", "GET", "POST", "PUT"))),
    (("protocol",), lambda random: random.choice(("HTTP/1.1", "HTTP/2"))),
    (("level", "severity"), lambda random: random.choice(("INFO", "INFO", "INFO", "WARN", "ERROR"))),
    (("message", "text", "description", "comment", "note"), lambda random: " ".join(random.choices(_WORDS, k=4))),
    (("zip", "zipcode", "postcode"), lambda random: f"{random.randrange(100_000):05}"),
)


def make_text(name: str, random: Random) -> str:
    """A text for a field of this name."""
    words = re.findall(r"[a-z]+|\d+", name.lower())
    for known, make in _BY_WORD:
        if words and (words[-1] in known or (words[-1] in ("code", "name") and set(words) & set(known))):
            return make(random)
    if words and words[-1] in ("id", "uuid", "key", "no", "number", "ref", "sku"):
        return f"{words[0]}-{random.randrange(_POOL)}"
    return random.choice(_WORDS)
