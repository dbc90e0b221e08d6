"""How published topics are written: the format of the settings, and their registry under their compatibility mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.errors import SchemaNotAcceptedError
from platform_assets.streaming.formats.registered_schema import SchemaFormat, SchemaTarget
from resources.embedded.registry import find_registry

if TYPE_CHECKING:
    from resources.registry.schema_registry import CompatibilityMode, SchemaRegistry
    from resources.settings import Settings

FORMATS: Mapping[str, SchemaFormat] = {"avro": "avro", "protobuf": "protobuf", "json-schema": "json"}
"""The formats that need a schema, by their names in the settings."""


@dataclass(frozen=True)
class Registrar:
    """Registers schemas under one compatibility mode; None: under the one that the subject has. A `RegisterSchema`."""

    registry: SchemaRegistry
    compatibility: CompatibilityMode | None

    def __call__(self, subject: str, schema_format: SchemaFormat, text: str) -> int:
        """See `SchemaRegistry.register`. Raises `SchemaNotAcceptedError` also for a subject of another format.

        Under a compatibility mode Apicurio answers that with status 500, as if it were away. Under NONE it registers
        the text, and says that it is of the other format: nobody could read what is written by it.
        """
        newest = self.registry.newest(subject)
        if newest is not None and newest.schema.format != schema_format:
            raise SchemaNotAcceptedError(
                f"The schema registry at {self.registry.access} has schemas of the format {newest.schema.format} in "
                f"the subject {subject}, and values are to be written in {schema_format}. Delete the subject there, or "
                "write to another topic."
            )
        return self.registry.register(subject, schema_format, text, compatibility=self.compatibility)


def find_publish_target(settings: Settings) -> SchemaTarget | None:
    """What published values are written by; None for plain JSON, without a schema. Contacts nobody.

    Raises `RegistryUnavailableError` where the embedded registry is meant and does not run, and `SettingError` for a
    certificate that cannot be used.
    """
    if (schema_format := FORMATS.get(settings.publish_format)) is None:
        return None
    return build_target(settings, schema_format)


def build_target(settings: Settings, schema_format: SchemaFormat) -> SchemaTarget:
    """What values of a format are written by, under the compatibility mode of the settings. Errors as above.

    Raises `SettingError` where no registry is set, too.
    """
    mode = settings.publish_compatibility
    return SchemaTarget(schema_format, Registrar(find_registry(settings), None if mode == "UNCHANGED" else mode))
