"""Runs the asset checks in this process and prints the verdicts: `headrace check`, and the end of the demonstration."""

from __future__ import annotations

import dagster as dg
from dagster_shared.error import SerializableErrorInfo
from rich.console import Console
from rich.table import Table

from jobs.definitions.asset_checks import checks_job
from jobs.platform.run_in_process import run_quietly
from platform_assets.private_rows import shown_rows


def run_checks(console: Console, *, show_rows: bool = False) -> bool:
    """Runs every asset check against the current lakehouse; the results are stored, so the UI shows them too.

    `show_rows`: prints the rows that differ as they are, users and all; they are kept nowhere.
    Returns whether all passed. A failed check of severity WARN is shown and does not fail the run.
    """
    with dg.DagsterInstance.get() as instance, shown_rows() as rows:
        result = run_quietly(checks_job.name, instance)
    evaluations = sorted(result.get_asset_check_evaluations(), key=lambda e: (e.asset_key.path, e.check_name))
    table = Table("table", "check", "verdict", "reason", title="Asset checks", title_justify="left")
    failed = False
    for evaluation in evaluations:
        is_error = not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
        failed = failed or is_error
        verdict = "[green]passed" if evaluation.passed else "[red]FAILED" if is_error else "[yellow]warning"
        table.add_row(".".join(evaluation.asset_key.path), evaluation.check_name, verdict, evaluation.description or "")
    console.print(table)
    for origin, row in rows if show_rows else ():
        console.print(f"{origin}: {dict(row)}", markup=False, soft_wrap=True)
    broken = [
        f"{event.step_key}: {find_cause(event.step_failure_data.error)}"
        for event in result.all_events
        if event.is_step_failure
    ]
    for line in broken:
        console.print(f"[red]A check could not run:[/red] {line}")
    return not failed and not broken and bool(evaluations)


def find_cause(error: SerializableErrorInfo | None) -> str:
    """What was raised in the check itself, in one line; Dagster wraps it in an error that names the step only."""
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "no reason is on record"
    # Our own errors say what to do in a sentence; of others the name is part of what they say.
    return error.message.strip().splitlines()[0].removeprefix(f"platform_assets.errors.{error.cls_name}: ")
