"""A schema registry with Confluent's API: schemas by id, subjects, versions, compatibility.

Confluent's registry, Apicurio's (its `ccompat` API) and others speak it. Where they differ: docs/registry.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote

from platform_assets.errors import SchemaNotAcceptedError, SettingError, UnknownSchemaError
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaFormat
from resources import registry_settings
from resources.registry.access import RegistryAccess
from resources.registry.answers import Answer
from resources.registry.http import call
from resources.registry.missing_ids import MissingIds
from resources.registry.schemas import (
    UNKNOWN_CODES,
    IdDocument,
    ModeDocument,
    SchemaReference,
    UsageDocument,
    VerdictDocument,
    VersionDocument,
    explain_unknown,
    fetch_schema,
    resolve,
    subject_path,
    write_document,
)

if TYPE_CHECKING:
    from resources.settings import Settings

CompatibilityMode: TypeAlias = Literal[
    "NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"
]

# As long as a registry takes to restart; a batch that waits for longer is better planned again.
_PATIENCE_SECONDS = 30.0
# Schemas are some kB each, and a topic has tens of versions. What is fetched in vain must not add up for ever.
_REMEMBERED_SCHEMAS = 4096
# An answer must stay small against the limit of its size.
_PAGE = 1000
_missing = MissingIds()


@dataclass(frozen=True)
class SubjectVersion:
    """A version of a subject, with its schema and all that this refers to."""

    subject: str
    version: int
    schema: RegisteredSchema


@dataclass(frozen=True)
class Compatibility:
    """What the registry says about a schema that is not registered yet. Apicurio gives no messages."""

    is_compatible: bool
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class SchemaRegistry:
    """One registry, as a value: it may be sent to Spark's tasks, and is a `FetchSchema`. Shows no secret.

    Every method raises `RegistryUnavailableError` when the registry does not answer within `patience_seconds`, and
    `RegistryRefusedError` when it refuses the account, TLS fails, or the address is not a registry's. All may be called
    from any thread and process.
    """

    access: RegistryAccess
    patience_seconds: float = field(default=_PATIENCE_SECONDS, compare=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> SchemaRegistry:
        """The registry that the settings name; nothing is contacted.

        Raises `SettingError` where they name none, or the embedded one, whose address only its start tells
        (`embedded.registry.running_registry`), or a certificate's file cannot be used.
        """
        urls = settings.schema_registry_url
        if urls in ("", registry_settings.EMBEDDED):
            raise SettingError(
                "No schema registry is set. Set HEADRACE_SCHEMA_REGISTRY_URL to its address, or to embedded."
            )
        return cls(registry_settings.build_access(urls, settings.schema_registry_config.get_secret_value()))

    def __call__(self, schema_id: int) -> RegisteredSchema:
        """The schema of an id with all that it refers to, fetched once a process: what an id means never changes.

        Raises `UnknownSchemaError` where the registry has none, or what it has cannot be resolved: a reference is gone,
        leads back to itself, or one name stands for two texts; so it does for some seconds, without asking again.
        """
        return _fetch(self, schema_id)

    def subjects(self) -> tuple[str, ...]:
        """All subjects, sorted. A list that is not asked for by pages may end early: Apicurio's does after 1,000."""
        found: set[str] = set()
        while True:
            page = self._get(f"/subjects?offset={len(found)}&limit={_PAGE}").read(list[str])
            if found.issuperset(page):  # the end, or all once more from a registry without pages
                return tuple(sorted(found))
            found.update(page)

    def versions(self, subject: str) -> tuple[int, ...]:
        """The subject's versions, oldest first; none where there is no such subject."""
        answer = self._get(f"{subject_path(subject)}/versions")
        return () if answer.error_code in UNKNOWN_CODES else tuple(sorted(answer.read(list[int])))

    def newest(self, subject: str) -> SubjectVersion | None:
        """The subject's newest version; None where there is no such subject."""
        return self._read_version(subject, "latest")

    def version(self, subject: str, number: int) -> SubjectVersion | None:
        """One version of the subject; None where there is none. Raises `UnknownSchemaError` as the call by id does."""
        return self._read_version(subject, str(number))

    def usages(self, schema_id: int) -> tuple[tuple[str, int], ...]:
        """The (subject, version) that have this id, sorted. Raises `UnknownSchemaError` where there is no such id."""
        answer = self._get(f"/schemas/ids/{schema_id}/versions")
        if answer.error_code in UNKNOWN_CODES:
            raise explain_unknown(self.access, schema_id)
        return tuple(sorted((found.subject, found.version) for found in answer.read(list[UsageDocument])))

    def compatibility_mode(self, subject: str) -> str:
        """The mode in which the registry judges the subject's next version, its own default included."""
        for path in (f"/config/{quote(subject, safe='')}?defaultToGlobal=true", "/config"):
            answer = self._get(path)
            if answer.error_code not in UNKNOWN_CODES:
                break
        return answer.read(ModeDocument).level

    def set_compatibility(self, subject: str, mode: CompatibilityMode) -> None:
        """Sets the mode in which the subject's next versions are judged; the subject need not exist yet."""
        self._take(self._send("PUT", f"/config/{quote(subject, safe='')}", {"compatibility": mode}), subject)

    def register(
        self,
        subject: str,
        schema_format: SchemaFormat,
        text: str,
        references: Sequence[SchemaReference] = (),
        *,
        compatibility: CompatibilityMode | None = None,
    ) -> int:
        """Registers the schema as the subject's next version and returns its id; one that is there keeps its id.

        `compatibility` is set for the subject before, and stays set where the schema is refused. Raises
        `SchemaNotAcceptedError`, with the registry's words, for one that is not compatible or cannot be read.
        """
        if compatibility is not None:
            self.set_compatibility(subject, compatibility)
        answer = self._send(
            "POST", f"{subject_path(subject)}/versions", write_document(schema_format, text, references)
        )
        return self._take(answer, subject).read(IdDocument).id

    def check_compatibility(
        self, subject: str, schema_format: SchemaFormat, text: str, references: Sequence[SchemaReference] = ()
    ) -> Compatibility:
        """Asks whether the schema could be the subject's next version, by the subject's mode; registers nothing.

        To a subject that does not exist everything is compatible. Raises `SchemaNotAcceptedError` for one that cannot
        be read.
        """
        path = f"/compatibility{subject_path(subject)}/versions?verbose=true"
        answer = self._send("POST", path, write_document(schema_format, text, references))
        if answer.error_code in UNKNOWN_CODES:
            return Compatibility(is_compatible=True)
        verdict = self._take(answer, subject).read(VerdictDocument)
        return Compatibility(verdict.is_compatible, tuple(verdict.messages or ()))

    def _read_version(self, subject: str, number: str) -> SubjectVersion | None:
        answer = self._get(f"{subject_path(subject)}/versions/{number}")
        if answer.error_code in UNKNOWN_CODES:
            return None
        found = answer.read(VersionDocument)
        return SubjectVersion(subject, found.version, resolve(self.access, found.id, found, self.patience_seconds))

    def _take(self, answer: Answer, subject: str) -> Answer:
        if answer.error_code:
            raise SchemaNotAcceptedError(
                f"The schema registry at {self.access} does not accept this for the subject {subject}: {answer.words}. "
                "Change the schema, or the subject's compatibility mode."
            )
        return answer

    def _get(self, path: str) -> Answer:
        return call(self.access, "GET", path, patience_seconds=self.patience_seconds)

    def _send(self, method: str, path: str, body: Mapping[str, Any]) -> Answer:
        return call(self.access, method, path, body, patience_seconds=self.patience_seconds)


@lru_cache(maxsize=_REMEMBERED_SCHEMAS)
def _fetch(registry: SchemaRegistry, schema_id: int) -> RegisteredSchema:
    if (said := _missing.find((registry, schema_id))) is not None:
        raise UnknownSchemaError(said)
    try:
        return fetch_schema(registry.access, schema_id, registry.patience_seconds)
    except UnknownSchemaError as error:
        _missing.add((registry, schema_id), str(error))
        raise
