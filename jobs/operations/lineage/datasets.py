"""Topics and tables as OpenLineage's datasets, by the names that its naming specification gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset

_KAFKA_PORT = 9092


@dataclass(frozen=True)
class NamedDataset:
    """A dataset: `namespace` says where it lies, `name` is unique there. The rest is known of tables.

    `sources` are the columns of `source` that a column is computed of, by its name: those of which that is known.
    """

    namespace: str
    name: str
    table: str = ""
    description: str = ""
    columns: Sequence[Column] = ()
    version: int | None = None
    source: NamedDataset | None = None
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)


def name_topic(servers: str, topic: str) -> NamedDataset:
    """`kafka://host:port` of the first server of a list, and the topic."""
    first = urlsplit(f"//{servers.split(',')[0].strip()}")
    return NamedDataset(f"kafka://{first.hostname}:{first.port or _KAFKA_PORT}", topic)


def name_table(root_uri: str, table: str) -> NamedDataset:
    """A table of a lakehouse: `file` and its path, or `s3://bucket` and its key. `table` is `layer.name`."""
    path = table.replace(".", "/")
    if "://" not in root_uri:
        return NamedDataset("file", f"{root_uri.rstrip('/')}/{path}", table)
    root = urlsplit(root_uri)
    if root.scheme == "file":
        return NamedDataset("file", f"{root.path.rstrip('/')}/{path}", table)
    scheme = "s3" if root.scheme == "s3a" else root.scheme
    return NamedDataset(f"{scheme}://{root.netloc}", f"{root.path}/{path}".strip("/"), table)


def describe_table(root_uri: str, spec: TableSpec, **known: Any) -> NamedDataset:
    """A table with what its spec says; `known` are further fields of `NamedDataset`."""
    named = name_table(root_uri, spec.name)
    return NamedDataset(named.namespace, named.name, spec.name, spec.description, spec.columns, **known)


def build_input(dataset: NamedDataset, rows: int | None = None, size: int | None = None) -> InputDataset:
    """An input. `rows` and `size` (bytes) are what the run has read of it, where that is known."""
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.generated.input_statistics_input_dataset import InputStatisticsInputDatasetFacet

    read: dict[str, Any] = (
        {} if rows is None else {"inputStatistics": InputStatisticsInputDatasetFacet(rowCount=rows, size=size)}
    )
    return InputDataset(dataset.namespace, dataset.name, facets=_build_facets(dataset), inputFacets=read)


def build_output(dataset: NamedDataset) -> OutputDataset:
    """An output, with its column lineage where that is known."""
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.generated.column_lineage_dataset import ColumnLineageDatasetFacet, Fields, InputField

    facets, source = _build_facets(dataset), dataset.source
    if source is not None and dataset.sources:
        fields = {
            column: Fields([InputField(source.namespace, source.name, name) for name in names])
            for column, names in dataset.sources.items()
        }
        facets["columnLineage"] = ColumnLineageDatasetFacet(fields)
    return OutputDataset(dataset.namespace, dataset.name, facets=facets)


def _build_facets(dataset: NamedDataset) -> dict[str, Any]:
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
    from openlineage.client.generated.documentation_dataset import DocumentationDatasetFacet
    from openlineage.client.generated.schema_dataset import SchemaDatasetFacet, SchemaDatasetFacetFields
    from openlineage.client.generated.storage_dataset import StorageDatasetFacet
    from openlineage.client.generated.symlinks_dataset import Identifier, SymlinksDatasetFacet

    facets: dict[str, Any] = {}
    if dataset.version is not None:
        facets["version"] = DatasetVersionDatasetFacet(str(dataset.version))
    if not dataset.table:
        return facets
    # People and Dagster know the table by this name, wherever it lies.
    facets["symlinks"] = SymlinksDatasetFacet([Identifier("headrace", dataset.table, "TABLE")])
    facets["storage"] = StorageDatasetFacet("delta", "parquet")
    if dataset.columns:
        columns = [SchemaDatasetFacetFields(c.name, c.type, c.description) for c in dataset.columns]
        facets["schema"] = SchemaDatasetFacet(columns)
    if dataset.description:
        facets["documentation"] = DocumentationDatasetFacet(dataset.description)
    return facets
