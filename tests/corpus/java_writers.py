"""Runs Java's serializers (`WriteRecords.java`) with their jars, which are resolved from Maven and not kept."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resources.java import java_binary

_PROGRAM = Path(__file__).with_name("WriteRecords.java")
_TIMEOUT_SECONDS = 300


def write_records(coordinates: Sequence[str], records: Sequence[Mapping[str, Any]]) -> list[bytes | str]:
    """The bytes of each record, as the serializer that it names has written it; a text: what the serializer said.

    Needs a JDK (the program is compiled as it starts) and the network. Raises `CalledProcessError`.
    """
    import jgo

    jars = os.pathsep.join(str(jar) for jar in jgo.build("+".join(coordinates)).all_jars)
    with tempfile.TemporaryDirectory(prefix="headrace-corpus-") as folder:
        job = Path(folder) / "records.json"
        job.write_text(json.dumps(records))
        command = [str(java_binary()), "-Xmx512m", "-cp", jars, str(_PROGRAM), str(job)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=_TIMEOUT_SECONDS)
    lines = done.stdout.splitlines()
    assert len(lines) == len(records), done.stdout
    return [line[1:] if line.startswith("!") else bytes.fromhex(line) for line in lines]
