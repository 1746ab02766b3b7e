"""What is loaded once it is needed: the prediction log and posteriors, gRPC, traces.

Knows names only.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand

if TYPE_CHECKING:
    from clew.serving.collector import Collector
    from clew.serving.feedback import FeedbackLog, feedback_on
    from clew.serving.graph_checks import check_fit, check_graphs
    from clew.serving.grpc_server import GrpcServer
    from clew.serving.log import PredictionLog
    from clew.serving.thompson import allocate
    from clew.serving.tracing import Tracer

__all__ = [
    "Collector",
    "FeedbackLog",
    "GrpcServer",
    "PredictionLog",
    "Tracer",
    "allocate",
    "check_fit",
    "check_graphs",
    "feedback_on",
]

__getattr__ = on_demand(
    __name__,
    {
        "Collector": "collector",
        "FeedbackLog": "feedback",
        "GrpcServer": "grpc_server",
        "PredictionLog": "log",
        "Tracer": "tracing",
        "allocate": "thompson",
        "check_fit": "graph_checks",
        "check_graphs": "graph_checks",
        "feedback_on": "feedback",
    },
    package="clew.serving",
)
