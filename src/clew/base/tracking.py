"""Where runs that user code makes in a job are logged: what its worker is told, in variables.

Knows the names of MLflow's variables and the server's path; nothing of jobs, and no MLflow.
"""

from __future__ import annotations

AUTOLOG = "CLEW_AUTOLOG"
"""``off`` in the environment: training in workers and notebooks is not logged by itself."""

TRIAL = "{trial}"
"""In a value for trials: the id of each."""


class Tracking:
    """Nowhere, until a server that carries MLflow says where it is."""

    def __init__(self) -> None:
        self._url = ""
        self._token = ""
        self._autolog = True

    def begin(self, url: str, token: str = "", *, autolog: bool = True) -> None:
        """From now on user code logs to the server at ``url``."""
        self._url, self._token, self._autolog = url, token, autolog

    def end(self) -> None:
        """From now on it logs nowhere."""
        self._url = ""

    def variables(self, inside: str, experiment: str) -> dict[str, str]:
        """What a call is told; nothing where no server carries MLflow.

        ``inside``: ids of lineage that a run belongs to, the nearest first, with a dot between.
        ``experiment``: where runs go that name none.
        """
        if not self._url:
            return {}
        return {
            "MLFLOW_TRACKING_URI": f"{self._url}/mlflow/in/{inside}" if inside else self._url,
            **({"MLFLOW_TRACKING_TOKEN": self._token} if self._token else {}),
            "MLFLOW_EXPERIMENT_NAME": experiment,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # a server that is gone does not hold a job
            "GIT_PYTHON_REFRESH": "quiet",
            AUTOLOG: "on" if self._autolog else "off",
        }
