"""Trains the fraud model in this process, for a command that says itself what came of it."""

from __future__ import annotations

import dagster as dg

from jobs.platform.checks_run import find_cause
from jobs.platform.run_in_process import run_quietly
from platform_assets.errors import InterruptedByUserError, RunFailedError, UsageError
from platform_assets.fraud.assets import has_payments
from platform_assets.fraud.model_register import ModelRegister
from platform_assets.streams import load_streams
from resources.lakehouse import LakehouseResource
from resources.settings import Settings


def train_now(instance: dg.DagsterInstance, settings: Settings) -> str:
    """One run of `train_fraud_model` with what is known now; returns the version and its verdict in a sentence.

    Raises `UsageError` where card payments are not enabled, `InterruptedByUserError` after Ctrl-C, and `RunFailedError`
    with the run's own reason.
    """
    if not has_payments(load_streams()):
        raise UsageError("There are no card payments to learn from. Add payments to HEADRACE_GROUPS.")
    result = run_quietly("train_fraud_model", instance)
    for failure in (event.step_failure_data for event in result.all_events if event.is_step_failure):
        if failure.error is not None and failure.error.cls_name == "DagsterExecutionInterruptedError":
            raise InterruptedByUserError("The training was interrupted.")
        told = failure.user_failure_data
        raise RunFailedError((told.description if told else None) or find_cause(failure.error))
    newest = ModelRegister(LakehouseResource.from_settings(settings)).read_models()[-1]
    return f"Version {newest.version}: {newest.verdict}"
