"""Serving: endpoints with revisions and rollouts, requests answered, every prediction logged.

Knows nothing of how a model was made or judged, and nothing of drift.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.base.records.traffic import Rollout
from clew.serving.config import ServingSettings
from clew.serving.definitions import EndpointDefinition, canary, immediate, rollout_from

if TYPE_CHECKING:
    from clew.serving.collector import log_repo
    from clew.serving.endpoints import Serving
    from clew.serving.grafana import dashboard
    from clew.serving.in_process import InProcess
    from clew.serving.remote import RemoteModel
    from clew.serving.supervisor import ServingProcess

__all__ = [
    "EndpointDefinition",
    "InProcess",
    "RemoteModel",
    "Rollout",
    "Serving",
    "ServingProcess",
    "ServingSettings",
    "canary",
    "dashboard",
    "immediate",
    "log_repo",
    "rollout_from",
]

__getattr__ = on_demand(
    __name__,
    {
        "dashboard": "grafana",
        "log_repo": "collector",
        "InProcess": "in_process",
        "RemoteModel": "remote",
        "Serving": "endpoints",
        "ServingProcess": "supervisor",
    },
)
