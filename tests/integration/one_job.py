"""A code location with one job that does nothing, for tests of Dagster's web server."""

import dagster as dg


@dg.op
def nothing() -> None:
    """Does nothing."""


@dg.job
def one_job() -> None:
    """Does nothing."""
    nothing()


defs = dg.Definitions(jobs=[one_job])
