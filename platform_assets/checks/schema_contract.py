"""Checks that each public table is what its spec promises, read by delta-rs: a client that is not Spark."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.streaming.delta.table_schema import find_column_breaches
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

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
    breaches = find_column_breaches(table, spec)
    metadata, protocol = table.metadata(), table.protocol()
    if protocol.min_reader_version > _MAX_READER_VERSION:
        breaches.append(f"Reader protocol is {protocol.min_reader_version}: independent clients may fail to read it.")
    for key, values in _FORBIDDEN_PROPERTIES.items():
        if metadata.configuration.get(key) in values:
            breaches.append(f"Property {key} is {metadata.configuration[key]}: independent clients may fail to read.")
    return breaches


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
                "What writes it first makes it: a stream, an asset, or a command of a person.",
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
