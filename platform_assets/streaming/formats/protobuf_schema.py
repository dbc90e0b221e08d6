"""Protobuf values of a schema registry: compiled once a schema and process, read by the type that each value names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from platform_assets.streaming.formats.message_index import MessageIndex, split_index
from platform_assets.streaming.formats.protobuf_columns import find_column_reader
from platform_assets.streaming.formats.protobuf_files import compile_files
from platform_assets.streaming.formats.protobuf_shapes import read_message_shape
from platform_assets.streaming.formats.protobuf_types import MessageTypes
from platform_assets.streaming.formats.protobuf_values import MessageReaders
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError, ValueReader, compiled_once
from platform_assets.streaming.formats.registered_schema import RegisteredSchema

# The numbers of the descriptors' own fields, by which comments say what they stand at.
_MESSAGES_OF_FILE, _FIELDS, _NESTED = 4, 2, 3


class ProtobufReader:
    """Reads the values of one schema. Of any thread.

    What stands behind a value's frame is a message index and a message: `split` takes them apart, and `find` gives the
    reader of the index. The reader's `read` takes the message's bytes alone.
    """

    def __init__(self, types: MessageTypes) -> None:
        self._types = types
        self._readers = MessageReaders(types)
        self._found: dict[MessageIndex, ValueReader] = {}
        self._comments = dict(_list_comments(types.main))
        self._lock = Lock()

    def split(self, value: bytes) -> tuple[MessageIndex, bytes]:
        """The message index and the message's bytes. Raises `UndecodableError` for a broken index."""
        return split_index(value)

    def find(self, index: MessageIndex) -> ValueReader:
        """The reader of one message type. Raises `SchemaError` where the schema has none at this index."""
        if (known := self._found.get(index)) is not None:
            return known
        with self._lock:
            descriptor = self._types.find_at(index)
            shape = read_message_shape(descriptor, self._types, self._comments)
            try:
                read = _read_strictly(self._readers.find(descriptor), descriptor.full_name)
            except RecursionError:
                raise SchemaError(f"{descriptor.full_name} holds itself through too many types") from None
            columns = find_column_reader(descriptor)
            return self._found.setdefault(index, ValueReader(shape, read, read_columns=columns))

    def list_types(self) -> Iterator[tuple[MessageIndex, str]]:
        """All message types that stand in the schema's own file, with their full names; the first comes first.

        An index that serializers count otherwise is left out.
        """
        for index in self._types.list_indexes():
            try:
                yield index, self._types.find_at(index).full_name
            except SchemaError:
                continue

    def read(self, value: bytes) -> dict[str, Any]:
        """What stands behind a frame, index and message. Raises `UndecodableError`, also for an index of no type."""
        index, body = self.split(value)
        try:
            reader = self.find(index)
        except SchemaError as error:
            raise UndecodableError(str(error)) from None
        return reader.read(body)


def _read_strictly(read: Callable[[bytes], dict[str, Any]], name: str) -> Callable[[bytes], dict[str, Any]]:
    """The same function, which raises `UndecodableError` for all bytes that are no such message."""

    def read_strictly(body: bytes) -> dict[str, Any]:
        try:
            return read(body)
        except UnicodeDecodeError:
            raise UndecodableError(f"a text of {name} is not UTF-8") from None
        except RecursionError:
            raise UndecodableError(f"a {name} is nested too deeply") from None

    return read_strictly


@compiled_once
def read_protobuf(schema: RegisteredSchema) -> ProtobufReader:
    """The reader of a schema; the same one each time, in this process. Raises `SchemaError` for one that is broken.

    Raises `UnknownSchemaError` where the compiler had no time or memory: asked again, it may have. The first time takes
    some 0.1 s, as a compiler runs; it writes in a temporary folder only. A refusal is remembered too.
    """
    return ProtobufReader(MessageTypes(compile_files(schema)))


def _list_comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """What the text says in front of its fields, by their full names."""
    said = {
        tuple(each.path): " ".join((each.leading_comments or each.trailing_comments).split())
        for each in file.source_code_info.location
        if each.leading_comments or each.trailing_comments
    }

    def walk(declared: Iterable[DescriptorProto], path: Sequence[int], outer: str) -> Iterator[tuple[str, str]]:
        for place, message in enumerate(declared):
            at, name = (*path, place), f"{outer}{message.name}."
            for number, field in enumerate(message.field):
                if text := said.get((*at, _FIELDS, number)):
                    yield f"{name}{field.name}", text
            yield from walk(message.nested_type, (*at, _NESTED), name)

    return walk(file.message_type, (_MESSAGES_OF_FILE,), f"{file.package}." if file.package else "")
