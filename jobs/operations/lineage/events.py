"""A job of a run, and what has become of it, as one event of OpenLineage."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from jobs.operations.lineage.datasets import build_input, build_output
from jobs.operations.lineage.run_jobs import RunJob

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

State = Literal["START", "RUNNING", "COMPLETE", "ABORT", "FAIL"]

PRODUCER = "urn:headrace"
"""Which program builds the events and facets: a URI, as the specification wants it, and no address."""


def build_event(job: RunJob, state: State, at: float, namespace: str, error: str = "") -> RunEvent:
    """The event; `at` in seconds since 1970, `namespace` that of the jobs, `error` why a job failed.

    Whole: it says all that is known, so that one that does not arrive is not missed by the next.
    """
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState, set_producer

    set_producer(PRODUCER)
    inputs = [build_input(found) for found in job.inputs]
    if job.rows is not None and job.inputs:
        inputs[0] = build_input(job.inputs[0], job.rows, job.size)
    return RunEvent(
        eventTime=datetime.fromtimestamp(at, UTC).isoformat(),
        eventType=RunState[state],
        run=Run(job.run_id, facets=_build_run_facets(job, namespace, error)),
        job=Job(namespace, job.name, facets=_build_job_facets(job)),
        inputs=inputs,
        outputs=[build_output(found) for found in job.outputs],
    )


def _build_run_facets(job: RunJob, namespace: str, error: str) -> dict[str, Any]:
    from openlineage.client.generated import parent_run
    from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
    from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet

    package, name = ("pyspark", "spark") if job.is_streaming else ("dagster", "dagster")
    facets: dict[str, Any] = {
        "parent": parent_run.ParentRunFacet(
            parent_run.Run(job.parent_run_id), parent_run.Job(namespace, job.parent_name)
        ),
        "processing_engine": ProcessingEngineRunFacet(importlib.metadata.version(package), name),
    }
    if error:
        facets["errorMessage"] = ErrorMessageRunFacet(error, "PYTHON")
    return facets


def _build_job_facets(job: RunJob) -> dict[str, Any]:
    from openlineage.client.generated.job_type_job import JobTypeJobFacet

    processing, integration, kind = (
        ("STREAMING", "SPARK", "QUERY") if job.is_streaming else ("BATCH", "DAGSTER", "ASSET")
    )
    return {"jobType": JobTypeJobFacet(processing, integration, kind)}
