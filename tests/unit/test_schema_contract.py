"""The schema contract: every promise of a spec, broken one at a time in a real Delta table."""

from __future__ import annotations

import dagster as dg
import pytest
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import ArrayType, PrimitiveType

from platform_assets.checks.schema_contract import build_schema_contract_checks, find_contract_breaches
from platform_assets.tables.spec import Column, TableSpec
from resources.lakehouse import LakehouseResource

SPEC = TableSpec(
    name="gold.contract",
    description="A table",
    grain="one thing",
    key=("id",),
    columns=(
        Column("id", "bigint", "Key", nullable=False),
        Column("at", "timestamp", "Time"),
        Column("tags", "array<string>", "Words"),
        Column("amount", "decimal(18,2)", "Money"),
        Column("day", "date", "Partition"),
    ),
    partition_columns=("day",),
)

ID = Field("id", PrimitiveType("long"), nullable=False)
AT = Field("at", PrimitiveType("timestamp"))
TAGS = Field("tags", ArrayType(PrimitiveType("string"), contains_null=True))
AMOUNT = Field("amount", PrimitiveType("decimal(18,2)"))
DAY = Field("day", PrimitiveType("date"))


def create(
    lakehouse: LakehouseResource,
    *fields: Field,
    partition_by: tuple[str, ...] = ("day",),
    configuration: dict[str, str | None] | None = None,
) -> DeltaTable:
    return DeltaTable.create(
        lakehouse.table_uri(SPEC.name), Schema(list(fields)), partition_by=list(partition_by),
        configuration=configuration,
    )  # fmt: skip


def check(lakehouse: LakehouseResource) -> dg.AssetCheckResult:
    (definition,) = build_schema_contract_checks([SPEC])
    verdict = definition(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


def test_a_table_as_promised_passes(lakehouse: LakehouseResource) -> None:
    create(lakehouse, ID, AT, TAGS, AMOUNT, DAY)
    assert check(lakehouse).passed


@pytest.mark.parametrize(
    ("fields", "breach"),
    [
        ((ID, AT, TAGS, DAY), "Column amount is missing."),
        ((ID, AT, TAGS, AMOUNT, DAY, Field("more", PrimitiveType("string"))), "Column more is not in the spec."),
        ((AT, ID, TAGS, AMOUNT, DAY), "Columns are in the order at, id"),
        ((ID, Field("at", PrimitiveType("string")), TAGS, AMOUNT, DAY), "Column at is string; promised is timestamp."),
        (
            (ID, AT, TAGS, Field("amount", PrimitiveType("decimal(20,2)")), DAY),
            "Column amount is decimal(20,2); promised is decimal(18,2).",
        ),
        (
            (Field("id", PrimitiveType("long")), AT, TAGS, AMOUNT, DAY),
            "Column id is nullable; promised is NOT NULL.",
        ),
    ],
)
def test_a_changed_column_is_named(lakehouse: LakehouseResource, fields: tuple[Field, ...], breach: str) -> None:
    create(lakehouse, *fields)
    verdict = check(lakehouse)
    assert not verdict.passed
    assert breach in str(verdict.description)


def test_another_partitioning_is_named(lakehouse: LakehouseResource) -> None:
    table = create(lakehouse, ID, AT, TAGS, AMOUNT, DAY, partition_by=())
    assert find_contract_breaches(table, SPEC) == ["Partition columns are []; promised are ('day',)."]


@pytest.mark.parametrize("key", ["delta.enableDeletionVectors", "delta.columnMapping.mode"])
def test_a_feature_that_old_readers_do_not_know_is_named(lakehouse: LakehouseResource, key: str) -> None:
    value = "true" if key.endswith("Vectors") else "name"
    table = create(lakehouse, ID, AT, TAGS, AMOUNT, DAY, configuration={key: value})
    breaches = " ".join(find_contract_breaches(table, SPEC))
    assert f"Property {key} is {value}" in breaches
    assert not check(lakehouse).passed


def test_a_missing_table_fails_and_says_where_it_should_be(lakehouse: LakehouseResource) -> None:
    verdict = check(lakehouse)
    assert not verdict.passed
    assert lakehouse.table_uri(SPEC.name) in str(verdict.description)
