"""The message types of a compiled Protobuf schema: as they are declared, and in a form in which nothing is lost.

The runtime drops what it cannot place: a map's entry with a wrong type, the number of a closed enum that the schema
does not have. Values are therefore decoded by a second form of the schema, with the same bytes: an enum is its number,
a map is the list of its entries, and an extension is an unknown field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from platform_assets.streaming.formats.message_index import MessageIndex
from platform_assets.streaming.formats.reader import SchemaError


class MessageTypes:
    """All message types of one schema. Of any thread; made once a schema and process.

    `has_required`: some have fields that proto2 requires. `most_fields` are those of the type that has most.
    """

    def __init__(self, files: Sequence[FileDescriptorProto]) -> None:
        """Raises `SchemaError` where the runtime does not take the files, which are in the order of imports."""
        self.main = files[-1]
        self.has_required = False
        self.most_fields = 1
        self._declared, self._decoding = DescriptorPool(), DescriptorPool()
        self._checked = {file.name for file in files if file.syntax == "proto3"}
        self._classes: dict[str, Any] = {}
        self._lock = Lock()
        try:
            for file in files:
                self._declared.AddSerializedFile(file.SerializeToString())
            for file in files:
                self._decoding.AddSerializedFile(self._flatten(file).SerializeToString())
        except (TypeError, ValueError) as error:
            raise SchemaError(f"the schema cannot be used: {error}") from None

    def find(self, full_name: str) -> Descriptor | None:
        """A message type as it is declared; None where the schema has none of this name."""
        try:
            return self._declared.FindMessageTypeByName(full_name)
        except KeyError:
            return None

    def checks_texts(self, descriptor: Descriptor) -> bool:
        """Whether the runtime refuses texts of such a message that are not UTF-8; else it gives bytes for them."""
        return descriptor.file.name in self._checked

    def find_sent(self, type_url: str) -> Descriptor | None:
        """The type that the sender of an `Any` names; None where the schema has none of this name."""
        return self.find(type_url.rpartition("/")[2])

    def find_class(self, full_name: str) -> Any:
        """The class of the messages of the second form. Its `FromString` raises `DecodeError`.

        Methods are called by the class, as `HasField(message, name)`: on a message, a field may have the same name.
        """
        with self._lock:
            if full_name not in self._classes:
                for each in _list_inner_first(self._decoding.FindMessageTypeByName(full_name)):
                    self._classes[each.full_name] = message_factory.GetMessageClass(each)
            return self._classes[full_name]

    def find_at(self, index: MessageIndex) -> Descriptor:
        """The type that an index names. Raises `SchemaError` where there is none, or where serializers disagree.

        Most count all types that the compiler has nested, also the entries of maps. Confluent's for Java counts those
        only that stand in the text. Where that makes a difference nothing is guessed.
        """
        name = self.main.package
        declared: Sequence[DescriptorProto] = self.main.message_type
        for place in index:
            written = [each for each in declared if not _is_made_by_compiler(each, self.main)]
            found = {each[place].name for each in (declared, written) if place < len(each)}
            found -= {each.name for each in declared if each.options.map_entry}
            if len(found) > 1:
                raise SchemaError(f"the message index {list(index)} means {' or '.join(sorted(found))}")
            if not found:
                raise SchemaError(f"the schema has no message type at the index {list(index)}")
            [inner] = found
            declared = next(each.nested_type for each in declared if each.name == inner)
            name = f"{name}.{inner}" if name else inner
        return self._declared.FindMessageTypeByName(name)

    def list_indexes(self) -> Iterator[MessageIndex]:
        """The indexes of all message types that stand in the schema's own file, as most serializers count them."""

        def walk(declared: Sequence[DescriptorProto], outer: MessageIndex) -> Iterator[MessageIndex]:
            for place, each in enumerate(declared):
                if not each.options.map_entry:
                    yield (*outer, place)
                    yield from walk(each.nested_type, (*outer, place))

        return walk(self.main.message_type, ())

    def read_parameters(self, field: FieldDescriptor) -> dict[str, str]:
        """What Confluent's option `field_meta` says of a field in its `params`: a decimal's precision and scale."""
        try:
            options = message_factory.GetMessageClass(
                self._declared.FindMessageTypeByName("google.protobuf.FieldOptions")
            ).FromString(field.GetOptions().SerializeToString())
            extension = self._declared.FindExtensionByName("confluent.field_meta")
        except KeyError:
            return {}
        return dict(options.Extensions[extension].params)

    def _flatten(self, file: FileDescriptorProto) -> FileDescriptorProto:
        flat = FileDescriptorProto()
        flat.CopyFrom(file)
        flat.ClearField("extension")
        flat.ClearField("source_code_info")
        left = list(flat.message_type)
        while left:
            message = left.pop()
            message.ClearField("extension")
            message.options.ClearField("map_entry")
            self.most_fields = max(self.most_fields, len(message.field))
            for field in message.field:
                self.has_required |= field.label == FieldDescriptorProto.LABEL_REQUIRED
                if field.type == FieldDescriptorProto.TYPE_ENUM:
                    field.type = FieldDescriptorProto.TYPE_INT32
                    field.ClearField("type_name")
                    field.ClearField("default_value")
            left += message.nested_type
        return flat


def _list_inner_first(descriptor: Descriptor) -> list[Descriptor]:
    """A type and all that it holds, each behind those that it holds itself: a class is made of the classes of these.

    The library would go through a long chain of types in one recursion.
    """
    found: dict[str, Descriptor] = {}
    seen, way = {descriptor.full_name}, [(descriptor, iter(descriptor.fields))]
    while way:
        outer, fields = way[-1]
        inner = next((each.message_type for each in fields if each.message_type is not None), None)
        if inner is None:
            found[outer.full_name] = outer
            way.pop()
        elif inner.full_name not in seen:
            seen.add(inner.full_name)
            way.append((inner, iter(inner.fields)))
    return list(found.values())


def _is_made_by_compiler(message: DescriptorProto, file: FileDescriptorProto) -> bool:
    """Whether a message type does not stand in the text as one: the entry of a map, or a group of proto2."""
    if message.options.map_entry:
        return True
    if file.syntax not in ("", "proto2"):
        return False
    left = [*file.message_type]
    while left:
        outer = left.pop()
        left += outer.nested_type
        fields = (*outer.field, *outer.extension, *file.extension)
        if any(
            each.type == FieldDescriptorProto.TYPE_GROUP and each.type_name.split(".")[-1] == message.name
            for each in fields
        ):
            return True
    return False
