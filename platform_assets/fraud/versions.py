"""The fraud model's versions in MLflow: a store in the platform's home, or a server (HEADRACE_MLFLOW_TRACKING_URI).

For people, and for tools that know MLflow: parameters, metrics, the scorecard and the library's model of each version,
and the alias `champion`. What judges payments reads `platform.fraud_models` and `platform.fraud_champions` alone, so a
server that is down stops a training, and neither an alert nor a roll-back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from platform_assets.errors import NotReadyError
from resources.scratch import make_scratch_folder
from resources.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.tracking import MlflowClient

    from platform_assets.fraud.training import TrainedModel

MODEL_NAME = "fraud_model"
CHAMPION, SHADOW = "champion", "shadow"

# The version's number of ours: MLflow counts by itself, and from 1 again on another server.
_VERSION_TAG = "headrace.version"

# A training waits for a server that is away for seconds, and not for MLflow's own hour of tries.
_SERVER_TRIES, _SERVER_SECONDS = "2", "10"


class ModelVersions:
    """The model's versions in one MLflow store. Nothing is made before something is put into it."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home / "mlflow"
        self._server = settings.mlflow_tracking_uri

    def add(self, model: TrainedModel, metrics: Mapping[str, float]) -> str:
        """Puts a version into the store and returns its number in MLflow.

        Raises `NotReadyError` when a server does not take it.
        """
        card = model.scorecard
        with self._connected() as client:
            run = client.create_run(self._find_experiment(client), run_name=f"version {card.version}")
            run_id = run.info.run_id
            for name, value in model.classifier.get_params().items():
                client.log_param(run_id, name, value)
            for name, number in {**metrics, "threshold": card.threshold}.items():
                client.log_metric(run_id, name, number)
            client.log_text(run_id, card.to_json(), "scorecard.json")
            client.log_text(run_id, msgspec.json.encode(model.cuts).decode(), "cuts.json")
            self._log_classifier(client, run_id, model)
            client.set_terminated(run_id)
            self._ensure_name(client)
            tags = {_VERSION_TAG: str(card.version)}
            found = client.create_model_version(
                MODEL_NAME, f"{run.info.artifact_uri}/model", run_id, tags=tags, await_creation_for=0
            )
            return str(found.version)

    def name_holders(self, champion: int, shadow: int | None) -> None:
        """Puts the aliases `champion` and `shadow` on these versions. Raises as `add`, and for a version not there."""
        with self._connected() as client:
            client.set_registered_model_alias(MODEL_NAME, CHAMPION, self._find(client, champion))
            if shadow is None:
                client.delete_registered_model_alias(MODEL_NAME, SHADOW)
            else:
                client.set_registered_model_alias(MODEL_NAME, SHADOW, self._find(client, shadow))

    def find_holder(self, alias: str) -> int | None:
        """The version of ours that has the alias; None for none."""
        from mlflow.exceptions import MlflowException

        with self._connected() as client:
            try:
                found = client.get_model_version_by_alias(MODEL_NAME, alias)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
            return int(found.tags[_VERSION_TAG])

    def _find(self, client: MlflowClient, version: int) -> str:
        found = client.search_model_versions(f"name = '{MODEL_NAME}'")
        numbers = [int(each.version) for each in found if each.tags.get(_VERSION_TAG) == str(version)]
        if not numbers:
            raise NotReadyError(
                f"MLflow does not have version {version} of the fraud model; platform.fraud_champions has the change. "
                "Set HEADRACE_MLFLOW_TRACKING_URI to the store in which it was put."
            )
        return str(max(numbers))

    def _find_experiment(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(MODEL_NAME)
        if found is not None:
            return str(found.experiment_id)
        # A server has its own place for files; without one MLflow would take the working folder.
        place = None if self._server else (self._home / "artifacts").as_uri()
        return str(client.create_experiment(MODEL_NAME, artifact_location=place))

    def _ensure_name(self, client: MlflowClient) -> None:
        if not client.search_registered_models(f"name = '{MODEL_NAME}'"):
            client.create_registered_model(MODEL_NAME, description="Tells which card payments are fraud (Headrace).")

    def _log_classifier(self, client: MlflowClient, run_id: str, model: TrainedModel) -> None:
        """Logs the library's model over the cuts' steps. Pickled: skops refuses boosted trees."""
        import sklearn

        folder = make_scratch_folder(self._home / "scratch")
        try:
            # It warns of type hints in code of its own, at whichever of its imports comes first.
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                import mlflow.sklearn

                mlflow.sklearn.save_model(
                    model.classifier, str(folder / "model"), serialization_format="cloudpickle",
                    # Said, and not found out: that takes a process of its own, and tens of seconds.
                    pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
                )  # fmt: skip
            client.log_artifacts(run_id, str(folder / "model"), "model")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[MlflowClient]:
        """A client for the block; what a server or its absence raises becomes a `NotReadyError`."""
        _quieten()
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        uri = self._server or _make_local_store(self._home)
        try:
            yield MlflowClient(tracking_uri=uri, registry_uri=uri)
        except MlflowException as error:
            first_line = str(error).splitlines()[0][:300]
            raise NotReadyError(
                f"MLflow ({self._server or self._home}) has not answered as it should: {first_line}. "
                "See that it runs, then try again."
            ) from None


def _make_local_store(home: Path) -> str:
    home.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{home / 'mlflow.db'}"


def _quieten() -> None:
    """Keeps MLflow from telling its makers of its use, and from lines that would bury what the run says."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": _SERVER_TRIES,
        "MLFLOW_HTTP_REQUEST_TIMEOUT": _SERVER_SECONDS,
    }.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401 - sets up its loggers when it is first imported

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
