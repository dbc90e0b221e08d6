"""Maps that are spelled as messages with `option map_entry` are those of the `map<K, V>` syntax, or are refused."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.formats.protobuf_entries import mark_entries
from platform_assets.streaming.formats.protobuf_files import compile_files
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema
from tests.generated_cases import examples

_KEYS = ("int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64", "bool",
         "string")  # fmt: skip
_VALUES = (*_KEYS, "bytes", "double", "float", "Kind", "M", "M.Inner")
_NAMES = ("a", "by_sku", "_x", "byNumber", "a__b", "n1_2")
Map = tuple[str, str, str]


def compile_text(text: str, *references: NamedSchema) -> FileDescriptorProto:
    return compile_files(RegisteredSchema(1, "protobuf", text, references))[-1]


def write_schema(syntax: str, maps: list[Map], *, as_entries: bool, optional: str) -> str:
    """A schema with these maps, each (name, type of keys, type of values), in the one spelling or in the other."""
    fields, entries = [], []
    for number, (name, key, value) in enumerate(maps, 1):
        entry = "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"
        fields.append(f"map<{key}, {value}> {name} = {number};")
        if as_entries:
            fields[-1] = f"repeated M.{entry} {name} = {number};"
            body = f"{optional} {key} key = 1;\n {optional} {value} value = 2;"
            entries.append(f"message {entry} {{\n option map_entry = true;\n\n {body} }}")
    zero = "UNKNOWN = 0;"
    return (
        f'syntax = "{syntax}";\npackage p;\nenum Kind {{ {zero} }}\nmessage M {{ {" ".join(fields)}\n'
        f"{' '.join(entries)} message Inner {{ {'optional ' if syntax == 'proto2' else ''}int32 a = 1; }} }}"
    )


def normalize(file: FileDescriptorProto) -> str:
    """What a schema says, whatever the places of its nested types."""
    file.ClearField("source_code_info")
    for message in file.message_type:
        nested = sorted(message.nested_type, key=lambda each: each.name)
        del message.nested_type[:]
        message.nested_type.extend(nested)
    return str(file)


@examples(6)
@given(
    st.sampled_from(["proto2", "proto3"]),
    st.lists(
        st.tuples(st.sampled_from(_NAMES), st.sampled_from(_KEYS), st.sampled_from(_VALUES)),
        min_size=1, max_size=4, unique_by=lambda each: each[0].replace("_", "").lower(),
    ),
    st.booleans(),
)  # fmt: skip
def test_both_spellings_are_compiled_alike(syntax: str, maps: list[Map], is_optional: bool) -> None:
    optional = "optional" if is_optional or syntax == "proto2" else ""
    meant = compile_text(write_schema(syntax, maps, as_entries=False, optional=""))
    spelled = compile_text(write_schema(syntax, maps, as_entries=True, optional=optional))
    assert normalize(spelled) == normalize(meant)


def test_entries_of_a_reference_are_maps_too() -> None:
    text = write_schema("proto3", [("a", "string", "int32")], as_entries=True, optional="")
    files = compile_files(RegisteredSchema(
        1, "protobuf", 'syntax = "proto3"; import "o.proto"; message N { p.M m = 1; }', (NamedSchema("o.proto", text),)
    ))  # fmt: skip
    (outer,) = (file.message_type[0] for file in files if file.name == "o.proto")
    assert [each.name for each in outer.nested_type if each.options.map_entry] == ["AEntry"]


@pytest.mark.parametrize(
    "text",
    [
        "// option map_entry = true;\nmessage M { string a = 1; }",
        "/* option map_entry = true; \n */ message M { string a = 1; }",
        'message M { string map_entry = 1 [json_name = "option map_entry = true;"]; }',
        'message M { string a = 1 [json_name = "\\"option map_entry = true;"]; }',
        "message M { string a = 1 [json_name = 'option map_entry = true;']; }",
    ],
)
def test_comments_and_texts_stay_as_they_are(text: str) -> None:
    assert mark_entries(text) == text
    compile_text(f'syntax = "proto3";\n{text}')


_ENTRY = "message AEntry { option map_entry = true; string key = 1; string value = 2; }"


@pytest.mark.parametrize(
    "text",
    [
        _ENTRY,  # of no message
        f"message M {{ {_ENTRY} }}",  # of no field
        f"message M {{ AEntry a = 1; {_ENTRY} }}",
        f"message M {{ repeated AEntry b = 1; {_ENTRY} }}",
        f"message M {{ repeated AEntry a = 1; AEntry again = 2; {_ENTRY} }}",
        f"message M {{ repeated AEntry a = 1; {_ENTRY.replace('string key', 'double key')} }}",
        f"message M {{ repeated AEntry a = 1; {_ENTRY.replace('string key = 1', 'string key = 3')} }}",
        f"message M {{ repeated AEntry a = 1; {_ENTRY.replace('string value', 'repeated string value')} }}",
        f"message M {{ repeated AEntry a = 1; {_ENTRY.replace('string value', 'string other')} }}",
        f"message M {{ repeated AEntry a = 1; {_ENTRY.replace('= 2;', '= 2; string more = 3;')} }}",
        f"message M {{ repeated AEntry a = 1; {_ENTRY.replace('= 2;', '= 2; message In {}')} }}",
        f"message M {{ repeated AEntry a = 1; {_ENTRY.replace('= 2;', '= 2; reserved 5;')} }}",
    ],
)
def test_what_is_no_entry_of_a_map_is_refused(text: str) -> None:
    with pytest.raises(SchemaError, match=r"AEntry has the option map_entry, and is not the entry of a map"):
        compile_text(f'syntax = "proto3";\n{text}')


def test_an_option_in_another_spelling_is_left_to_the_compiler() -> None:
    with pytest.raises(SchemaError, match="map_entry should not be set explicitly"):
        compile_text(f'syntax = "proto3"; message M {{ repeated AEntry a = 1; {_ENTRY.replace("= true", "= false")} }}')
