"""Checks that each public table is what its spec promises, read by delta-rs: a client that is not Spark."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.streaming.specs import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Delta's names for types that Spark SQL spells differently.
_SPARK_NAMES = {"long": "bigint", "integer": "int", "short": "smallint", "byte": "tinyint"}

# What old and foreign readers understand (design: protocol 1/2). Reader 2 is column mapping, 3 is table features.
_MAX_READER_VERSION = 1

_FORBIDDEN_PROPERTIES = {"delta.enableDeletionVectors": ("true",), "delta.columnMapping.mode": ("name", "id")}


def build_schema_contract_checks(tables: Iterable[TableSpec]) -> list[dg.AssetChecksDefinition]:
    """One check `schema_contract` for each table; needs the resource `lakehouse`."""
    return [_build_check(spec) for spec in tables]


def find_contract_breaches(table: "DeltaTable", spec: TableSpec) -> list[str]:
    """How the table differs from its spec, one sentence each; empty when it does not.

    Compared: names, types, order and nullability of the columns, the partition columns, the reader protocol, and the
    absence of deletion vectors and column mapping.
    """
    import json

    actual = [(f["name"], spark_type_name(f["type"]), f["nullable"]) for f in json.loads(table.schema().to_json())["fields"]]  # fmt: skip # noqa: E501
    promised = [(c.name, c.type.lower(), c.nullable) for c in spec.columns]
    breaches = []
    actual_names, promised_names = [a[0] for a in actual], [p[0] for p in promised]
    breaches += [f"Column {name} is missing." for name in promised_names if name not in actual_names]
    breaches += [f"Column {name} is not in the spec." for name in actual_names if name not in promised_names]
    if not breaches and actual_names != promised_names:
        breaches.append(f"Columns are in the order {', '.join(actual_names)}; promised is {', '.join(promised_names)}.")
    by_name = {name: (type_name, nullable) for name, type_name, nullable in actual}
    for name, type_name, nullable in promised:
        if name not in by_name:
            continue
        actual_type, actual_nullable = by_name[name]
        if actual_type != type_name:
            breaches.append(f"Column {name} is {actual_type}; promised is {type_name}.")
        if actual_nullable != nullable:
            breaches.append(f"Column {name} is {_nullability(actual_nullable)}; promised is {_nullability(nullable)}.")
    metadata, protocol = table.metadata(), table.protocol()
    if tuple(metadata.partition_columns) != spec.partition_columns:
        breaches.append(f"Partition columns are {metadata.partition_columns}; promised are {spec.partition_columns}.")
    if protocol.min_reader_version > _MAX_READER_VERSION:
        breaches.append(f"Reader protocol is {protocol.min_reader_version}: independent clients may fail to read it.")
    for key, values in _FORBIDDEN_PROPERTIES.items():
        if metadata.configuration.get(key) in values:
            breaches.append(f"Property {key} is {metadata.configuration[key]}: independent clients may fail to read.")
    return breaches


def spark_type_name(delta_type: str | Mapping[str, Any]) -> str:
    """A type of Delta's JSON schema as Spark SQL spells it: `array<string>`, `decimal(18,2)`, `bigint`."""
    if isinstance(delta_type, str):
        return _SPARK_NAMES.get(delta_type, delta_type)
    if delta_type["type"] == "array":
        return f"array<{spark_type_name(delta_type['elementType'])}>"
    if delta_type["type"] == "map":
        return f"map<{spark_type_name(delta_type['keyType'])},{spark_type_name(delta_type['valueType'])}>"
    return "struct<" + ",".join(f"{f['name']}:{spark_type_name(f['type'])}" for f in delta_type["fields"]) + ">"


def _nullability(nullable: bool) -> str:
    return "nullable" if nullable else "NOT NULL"


def _build_check(spec: TableSpec) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(spec.asset_path),
        name="schema_contract",
        description=f"The table's columns, partitioning and protocol are what the spec of {spec.name} promises.",
        required_resource_keys={"lakehouse"},
    )
    def schema_contract(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from deltalake.exceptions import TableNotFoundError

        try:
            table = context.resources.lakehouse.delta_table(spec.name)
        except TableNotFoundError:
            return dg.AssetCheckResult(
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,  # nothing is wrong with a table that nothing has made yet
                description=f"{spec.name} does not exist at {context.resources.lakehouse.table_uri(spec.name)}. "
                "Start the stream or materialize the asset that writes it.",
            )
        breaches = find_contract_breaches(table, spec)
        return dg.AssetCheckResult(
            passed=not breaches,
            description=" ".join(breaches) or f"{len(spec.columns)} columns as promised, reader protocol 1.",
            metadata={
                "delta/version": table.version(),
                "delta/min_reader_version": table.protocol().min_reader_version,
                "delta/min_writer_version": table.protocol().min_writer_version,
            },
        )

    return schema_contract
