"""A run is replaced after a change in any code that it hosts."""

from __future__ import annotations

from pathlib import Path

import grimp

from jobs.supervision.fingerprint import _CODE, find_sources

ROOT = Path(__file__).parents[2]


def test_all_that_the_streaming_job_imports_is_part_of_the_fingerprint() -> None:
    graph = grimp.build_graph(
        "jobs", "platform_assets", "resources", exclude_type_checking_imports=True, cache_dir=None
    )
    hosted = {"jobs.definitions.streaming_job", *graph.find_upstream_modules("jobs.definitions.streaming_job")}
    files = {module: ROOT / f"{module.replace('.', '/')}.py" for module in hosted}
    # A package's own file holds a sentence.
    modules = {module: path for module, path in files.items() if path.exists()}
    assert len(modules) > 80
    sources = set(find_sources(ROOT, _CODE))
    assert {module for module, path in modules.items() if path not in sources} == set()
    assert {path.name for path in sources} >= {"spark_pools.xml", "spark_log4j2.properties", "jars.lock"}
