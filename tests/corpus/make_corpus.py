"""Writes the corpus: records that other implementations have written, with the schemas that they registered for them.

    python -m tests.corpus.make_corpus

It is run by hand, when a serializer or a case is new; the tests read `records.json` only. Starts the embedded registry,
and needs a JDK, the network (the serializers' jars come from Maven) and what Confluent's client for Python wants for
its serializers: `pip install "confluent-kafka[avro,json,protobuf]"`.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc_tools

from platform_assets.streaming.formats.frame import find_schema_id, frame
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema
from resources.embedded.registry import EmbeddedRegistry
from resources.registry.schema_registry import SchemaRegistry
from resources.registry.schemas import SchemaReference
from tests.corpus import avro_cases, json_cases, protobuf_cases
from tests.corpus.exact_values import to_json
from tests.corpus.java_writers import write_records
from tests.corpus.python_writers import write_record

CORPUS = Path(__file__).with_name("records.json")
_APICURIO = "io.apicurio.registry.serde"
_SERIALIZERS = {
    "apicurio": {"avro": f"{_APICURIO}.avro.AvroKafkaSerializer",
                 "json": f"{_APICURIO}.jsonschema.JsonSchemaKafkaSerializer",
                 "protobuf": f"{_APICURIO}.protobuf.ProtobufKafkaSerializer"},
    "python": {"avro": "", "json": "", "protobuf": ""},
    "plain": {"avro": "plain"},
    "plain blocks": {"avro": "plain blocks"},
}  # fmt: skip
# The newest version of which all three serializers are in Maven Central; Confluent's own for Java are not there.
_JARS = tuple(f"io.apicurio:apicurio-registry-{name}-serde-kafka:3.1.7" for name in ("avro", "protobuf", "jsonschema"))


def main() -> None:
    """Writes all records by all writers, prints what a writer refused, and replaces the corpus."""
    with tempfile.TemporaryDirectory(prefix="headrace-corpus-") as home:
        embedded = EmbeddedRegistry(Path(home))
        registry = embedded.start()
        try:
            found = list(_write_all(registry, embedded.url))
        finally:
            embedded.stop()
    schemas: dict[str, int] = {}
    records = []
    for record, schema in found:
        text = json.dumps([schema.format, schema.text, [[each.name, each.text] for each in schema.references]])
        place = schemas.setdefault(text, len(schemas))
        records.append(
            {name: record[name] for name in ("writer", "name", "bytes", "means", "refused")} | {"schema": place}
        )
    lines = [",\n".join(texts) for texts in (schemas, map(json.dumps, records))]
    CORPUS.write_text(f'{{"schemas": [\n{lines[0]}\n],\n"records": [\n{lines[1]}\n]}}\n')
    print(f"{len(records)} records of {len(schemas)} schemas in {CORPUS}")


def _write_all(registry: SchemaRegistry, address: str) -> Iterator[tuple[dict[str, Any], RegisteredSchema]]:
    """All records with their bytes, and the schema of each as the registry has it."""
    cases = [*_list_avro(), *_list_protobuf(), *_list_json()]
    jobs = [
        {**case, "writer": writer, "refused": case["refused"].get(writer, ""),
         "serializer": names[case["format"]], "topic": f"{writer} {case['name']}".replace(" ", "-"),
         "configuration": _configure(address, case["format"] == "json")}
        for writer, names in _SERIALIZERS.items() for case in cases if case["format"] in names
    ]  # fmt: skip
    _register(registry, jobs)
    for job, written in zip(jobs, _write(jobs, address), strict=True):
        if isinstance(written, str):
            print(f"{job['writer']} did not write {job['name']}: {written[:300]}", file=sys.stderr)
        elif job["writer"].startswith("plain"):
            names = [NamedSchema(name, text) for name, text in zip(job["names"], job["references"], strict=True)]
            yield {**job, "bytes": frame(0, written).hex()}, RegisteredSchema(0, "avro", job["schema"], tuple(names))
        else:
            schema_id = find_schema_id(written)
            assert schema_id is not None, (job, written)
            yield {**job, "bytes": written.hex()}, registry(schema_id)


def _write(jobs: Sequence[dict[str, Any]], address: str) -> Iterator[bytes | str]:
    """The bytes of each job, or what its writer said; Java's are written by one JVM."""
    places = [place for place, job in enumerate(jobs) if job["writer"] != "python"]
    written = dict(zip(places, write_records(_JARS, [jobs[place] for place in places]), strict=True))
    for place, job in enumerate(jobs):
        if job["writer"] == "python":
            try:
                written[place] = write_record(job, address)
            except Exception as error:
                written[place] = f"{type(error).__name__}: {error}"
    return (written[place] for place in range(len(jobs)))


def _configure(address: str, has_schema: bool) -> dict[str, str]:
    """Has Apicurio's serializers write what Confluent's do: the index of a Protobuf type, not its name.

    `has_schema`: the subject has one already.
    """
    base = address.partition("/apis/")[0]
    return {"apicurio.registry.url": f"{base}/apis/registry/v3",
            "apicurio.registry.find-latest": str(has_schema).lower(),
            "apicurio.registry.auto-register": str(not has_schema).lower(),
            "apicurio.registry.serde.send-indexes": "true",
            "apicurio.registry.serde.send-type-ref": "false"}  # fmt: skip


def _register(registry: SchemaRegistry, jobs: Sequence[Mapping[str, Any]]) -> None:
    """Registers what serializers do not: Apicurio's no JSON Schema, and Python's no Avro schema with references."""
    for job in jobs:
        found = []
        is_avro = job["writer"] == "python" and job["format"] == "avro" and job["references"]
        for name, text in zip(job.get("names", ()), job["references"] if is_avro else (), strict=False):
            registry.register(name, "avro", text)
            found.append(SchemaReference(name, name, 1))
        if is_avro or (job["writer"] == "apicurio" and job["format"] == "json"):
            registry.register(f"{job['topic']}-value", job["format"], job["schema"], found)


def _list_avro() -> Iterator[dict[str, Any]]:
    for case in avro_cases.CASES:
        references = [json.dumps(schema) for _, schema in case.references]
        yield {"format": "avro", "name": case.name, "schema": json.dumps(case.schema), "value": case.given,
               "names": [name for name, _ in case.references], "refused": dict.fromkeys(_SERIALIZERS, case.refused),
               "references": references, "means": to_json(case.means)}  # fmt: skip


def _list_protobuf() -> Iterator[dict[str, Any]]:
    for number, case in enumerate(protobuf_cases.CASES):
        file = f"case_{number}.proto"
        yield {"format": "protobuf", "name": case.name, "schema": case.text, "value": case.given, "references": [],
               "refused": case.refused, "means": to_json(case.means), "file": file, "message": case.message,
               "descriptors": base64.b64encode(_compile(file, case)).decode()}  # fmt: skip


def _list_json() -> Iterator[dict[str, Any]]:
    for case in json_cases.CASES:
        yield {"format": "json", "name": case.name, "schema": json.dumps(case.schema), "value": case.document,
               "references": [], "refused": {}, "means": case.document}  # fmt: skip


def _compile(file: str, case: protobuf_cases.ProtobufCase) -> bytes:
    """The descriptors of a .proto file and of all that it imports, by protoc."""
    with tempfile.TemporaryDirectory(prefix="headrace-corpus-") as name:
        folder = Path(name)
        for path, text in ((file, case.text), *case.references):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        included = Path(next(iter(grpc_tools.__path__))) / "_proto"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{included}", "--include_imports",
                   f"--descriptor_set_out={folder / 'set'}", file]  # fmt: skip
        subprocess.run(command, check=True)
        return (folder / "set").read_bytes()


if __name__ == "__main__":
    main()
