"""Protobuf schemas of a registry, compiled: from the text of .proto files, or from serialized descriptors.

The compiler is Google's own, protoc, out of grpcio-tools. It runs in a process of its own, with limits: a text of
another's that made it crash, hang or grow would otherwise do so to Spark's worker. This takes about 0.1 s.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from platform_assets.errors import UnknownSchemaError
from platform_assets.streaming.formats.protobuf_builtin import CONFLUENT_FILES, KEPT_FOLDERS, read_google_types
from platform_assets.streaming.formats.protobuf_entries import mark_entries, restore_entries
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.registered_schema import RegisteredSchema

# The largest schemas that are known have some hundred kilobytes; a text of any size would fill the memory.
_MOST_CHARACTERS = 8_000_000
# A compiler that hangs would hold the task for good. It takes 0.1 s, some seconds on a machine that is overloaded.
_TIMEOUT_SECONDS = 60
# The compiler's own limits, should the process that waits for it be killed: seconds of CPU, and bytes of memory.
_CPU_SECONDS, _MEMORY_BYTES = 30, 2 * 2**30

_PROGRAM = f"""
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, ({_CPU_SECONDS}, {_CPU_SECONDS}))
    resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY_BYTES}, {_MEMORY_BYTES}))
except (ImportError, ValueError, OSError):
    pass
sys.path[:] = json.loads(sys.argv[1])
from grpc_tools import protoc
sys.exit(protoc.main(["protoc", *sys.argv[2:]]))
"""
# The compiler's own log, as `W0000 00:00:1795962555.045629   26043 parser.cc:614] ...`.
_LOG_LINE = re.compile(r"[IWEF]\d{4} ")
_MAIN = "schema.proto"
_NAME = re.compile(r"(?!\.{1,2}(/|$))[\w .+@-]+(/(?!\.{1,2}(/|$))[\w .+@-]+)*", re.ASCII)


def compile_files(schema: RegisteredSchema) -> list[FileDescriptorProto]:
    """The files of a schema, each behind those that it imports; its own file is the last.

    Writes in a temporary folder only. Raises `SchemaError` for a schema that the compiler refuses.
    """
    texts = {each.name: each.text for each in schema.references if not each.name.startswith(KEPT_FOLDERS)} | dict(
        CONFLUENT_FILES
    )
    if sum(map(len, texts.values())) + len(schema.text) > _MOST_CHARACTERS:
        raise SchemaError(f"the schema has more than {_MOST_CHARACTERS} characters")
    main = _MAIN
    while main in texts:
        main = f"_{main}"
    with TemporaryDirectory(prefix="headrace-protobuf-") as name:
        folder = Path(name)
        compiled = [each for each in read_google_types() if each.name not in texts]
        for path, text in {**texts, main: schema.text}.items():
            if (file := _read_descriptor(path, text)) is not None:
                compiled.append(file)
            else:
                _write_text(folder, path, text)
        (folder / "compiled.bin").write_bytes(FileDescriptorSet(file=compiled).SerializeToString())
        _run_compiler(folder, main)
        found = FileDescriptorSet.FromString((folder / "result.bin").read_bytes())
    return [restore_entries(file) for file in found.file]


def _read_descriptor(path: str, text: str) -> FileDescriptorProto | None:
    """A file that is a serialized descriptor in base64, under the name by which others import it; None for .proto."""
    try:
        # A .proto file that declares anything has braces, which base64 has not.
        content = base64.b64decode("".join(text.split()), validate=True)
        file = FileDescriptorProto.FromString(content) if content else None
    except (binascii.Error, ValueError, DecodeError):
        return None
    if file is not None:
        file.name = path
    return file


def _write_text(folder: Path, path: str, text: str) -> None:
    if not _NAME.fullmatch(path) or len(path) > 200:
        raise SchemaError(f"a reference has the name {path!r}, which is no path of a .proto file")
    target = folder / "files" / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(mark_entries(text), encoding="utf-8")
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise SchemaError(f"the reference {path} is a file and a folder of other references") from None
    except UnicodeEncodeError:
        raise SchemaError(f"the text of {path} is no Unicode text") from None


def _run_compiler(folder: Path, main: str) -> None:
    package = importlib.util.find_spec("grpc_tools")
    included = Path(next(iter(package.submodule_search_locations))).absolute() if package else None  # type: ignore[arg-type]
    if included is None:
        raise ModuleNotFoundError("grpcio-tools is not installed", name="grpc_tools")
    (folder / "files").mkdir(exist_ok=True)
    arguments = (
        f"-I{folder / 'files'}", f"-I{included / '_proto'}", f"--descriptor_set_in={folder / 'compiled.bin'}",
        "--include_imports", "--include_source_info", f"--descriptor_set_out={folder / 'result.bin'}", main,
    )  # fmt: skip
    # The compiler's process has another working directory.
    paths = [str(Path(each).absolute()) for each in sys.path]
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, json.dumps(paths), *arguments]
    try:
        # A Spark worker's standard input is the pipe to its daemon.
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnknownSchemaError(f"The schema was not compiled within {_TIMEOUT_SECONDS} seconds.") from None
    if -done.returncode in (signal.SIGKILL, signal.SIGXCPU):  # by a limit; the next time it may be compiled
        raise UnknownSchemaError("The schema was not compiled: protoc was ended, as it took too much time or memory.")
    if done.returncode:
        output = done.stderr.decode(errors="replace").replace(f"{folder / 'files'}/", "")
        said = next(_find_errors(output, main), f"protoc ended with {done.returncode}")
        raise SchemaError(f"the schema is not compiled: {said}")


def _find_errors(output: str, main: str) -> Iterator[str]:
    """What the compiler says against a schema, with line and column; warnings are left out."""
    for line in output.splitlines():
        if line.strip() and "warning:" not in line.lower() and not _LOG_LINE.match(line):
            yield line.removeprefix(f"{main}:")[:300]
