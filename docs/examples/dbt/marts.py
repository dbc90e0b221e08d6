"""A code location of its own: dbt models over the lakehouse's gold tables, below these in Dagster's asset graph."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]
HOME = Path(os.environ.get("HEADRACE_HOME") or PROJECT / ".headrace").resolve()
HEADRACE = os.environ.get("HEADRACE_COMMAND") or str(PROJECT / ".venv/bin/headrace")

HOME.mkdir(parents=True, exist_ok=True)
os.environ.setdefault("LAKE_FILE", str(HOME / "lake.duckdb"))
os.environ.setdefault("MARTS_FILE", str(HOME / "marts.duckdb"))
os.environ.setdefault("DBT_TARGET_PATH", str(HOME / "dbt"))  # what each run compiles, and its log

# Dagster's integration looks for the program `dbt` there; this environment need not be the shell's.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

project = DbtProject(HERE, target_path=HOME / "dbt")
# Reads the models, and opens no database: this works before there is a table.
project.preparer.prepare(project)


class HeadraceTranslator(DagsterDbtTranslator):
    """Names a source as the platform names the table's asset, `gold/sessions`: so the graph is one."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """The asset's key of a model or a source."""
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey([dbt_resource_props["source_name"], dbt_resource_props["name"]])
        return dg.AssetKey(["marts", dbt_resource_props["name"]])


@dbt_assets(manifest=project.manifest_path, dagster_dbt_translator=HeadraceTranslator(), name="marts")
def marts(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    """Builds the models, and runs their tests as asset checks, on the rows that are final now."""
    result = subprocess.run(
        [HEADRACE, "views", os.environ["LAKE_FILE"], "--complete"], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise dg.Failure(f"There are no views to build on. {result.stderr.strip()}")
    context.log.info(result.stdout.strip())
    yield from dbt.cli(["build"], context=context).stream()


defs = dg.Definitions(assets=[marts], resources={"dbt": DbtCliResource(project_dir=project)})
