"""The .proto files that schemas import and no registry has: Google's, which packages bring, and Confluent's."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from google.protobuf.descriptor_pb2 import FileDescriptorProto

# The values of these types have a form of their own. A reference of such a name is left out, so that what is read as a
# moment has the fields of one.
KEPT_FOLDERS = ("google/protobuf/", "confluent/")

_GOOGLE_TYPES = (
    "calendar_period", "color", "date", "datetime", "dayofweek", "decimal", "expr", "fraction", "interval", "latlng",
    "localized_text", "money", "month", "phone_number", "postal_address", "quaternion", "timeofday",
)  # fmt: skip

# Confluent's files, which its registry adds by itself: names and numbers are theirs.
CONFLUENT_FILES: Mapping[str, str] = {
    "confluent/meta.proto": """
        syntax = "proto3";
        package confluent;
        import "google/protobuf/descriptor.proto";
        message Meta {
          string doc = 1;
          map<string, string> params = 2;
          repeated string tags = 3;
          repeated Rule rules = 4;
        }
        message Rule { string name = 1; string doc = 2; string expr = 3; string sql = 4; }
        extend google.protobuf.FileOptions { Meta file_meta = 1088; }
        extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
        extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
        extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
        extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
    """,
    "confluent/type/decimal.proto": """
        syntax = "proto3";
        package confluent.type;
        message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }
    """,
    "confluent/types/decimal.proto": """
        syntax = "proto3";
        import public "confluent/type/decimal.proto";
    """,
    "confluent/type/variant.proto": """
        syntax = "proto3";
        package confluent.type;
        message Variant { bytes metadata = 1; bytes value = 2; }
    """,
}


def read_google_types() -> list[FileDescriptorProto]:
    """The files `google/type/*.proto`, compiled. They need files of `google/protobuf/`, which the compiler has."""
    modules = [importlib.import_module(f"google.type.{name}_pb2") for name in _GOOGLE_TYPES]
    return [FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb) for module in modules]
