"""Secrets that are planted in all places that hold one, and the search for them where they must not be."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import SecretStr

from resources.settings import Settings


def list_secret_settings() -> set[str]:
    """The settings that hold secrets: no `repr` shows them."""
    return {name for name, of in Settings.model_fields.items() if of.annotation is SecretStr or not of.repr}


def new_secret() -> str:
    """A text that is nowhere by chance, and is the same in JSON, in an address and in a shell."""
    return secrets.token_hex(16)


@dataclass
class PlantedSecrets:
    """Secrets by the place where they were planted."""

    values: dict[str, str] = field(default_factory=dict)

    def plant(self, place: str, secret: str = "") -> str:
        """A secret for a place; a new one, or the one that is there."""
        return self.values.setdefault(place, secret or new_secret())

    def find(self, texts: Iterable[tuple[str, bytes]]) -> list[str]:
        """Says which secret is in which of the named texts, as it is or as a log-in of HTTP has it."""
        spelled = {place: {secret.encode(), *_in_base64(secret)} for place, secret in self.values.items()}
        return [
            f"{place} in {name}"
            for name, text in texts
            for place, spellings in spelled.items()
            if any(each in text for each in spellings)
        ]


def _in_base64(secret: str) -> Iterator[bytes]:
    """How the secret looks within a longer text in base64, by what stands before it."""
    for before in range(3):
        coded = base64.b64encode(b"x" * before + secret.encode())
        yield coded[4 * (before > 0) : len(coded) // 4 * 4 - 4]


def write_secrets(folder: Path, files: Mapping[str, object]) -> None:
    """The files of HEADRACE_SECRETS_DIR, by setting; all settings that hold a secret must have one."""
    assert files.keys() == list_secret_settings(), "a setting that holds a secret is planted here, and looked for"
    folder.mkdir(exist_ok=True)
    for setting, value in files.items():
        path = folder / f"headrace_{setting}"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        path.chmod(0o400)


def read_files(*roots: Path) -> Iterator[tuple[str, bytes]]:
    """All files below the folders."""
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes()


def read_processes(pid: int) -> dict[str, bytes]:
    """The command lines and the environments of a process and of all that it has started, which live now."""
    found = {}
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        for part in ("cmdline", "environ"):
            path = Path(f"/proc/{process.pid}/{part}")
            with contextlib.suppress(OSError, psutil.NoSuchProcess):  # it has ended meanwhile
                found[f"{path} of {process.name()}"] = path.read_bytes()
    return found
