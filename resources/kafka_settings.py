"""What HEADRACE_KAFKA_CONFIG may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from platform_assets.errors import SettingError
from resources import librdkafka

# Without a look at them first librdkafka's answer is an error number of OpenSSL.
_FILES = frozenset({"ssl.ca.location", "ssl.certificate.location", "ssl.key.location"})


def parse_options(text: str) -> dict[str, str]:
    """librdkafka's options of a JSON object. Raises `SettingError`, also where a file that they name cannot be read."""
    try:
        options = json.loads(text or "{}")
        if not isinstance(options, dict):
            raise TypeError
    except (ValueError, TypeError):
        raise SettingError("HEADRACE_KAFKA_CONFIG: must be a JSON object of librdkafka options.") from None
    texts = {key: _option_text(value) for key, value in options.items()}
    for key in _FILES & texts.keys():
        if not Path(texts[key]).is_dir() and texts[key] != "probe":  # librdkafka looks for authorities itself
            librdkafka.read_file(key, texts[key])
    return texts


def _option_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
