"""What is loaded once it is needed: the prediction log, which brings numpy, and gRPC.

Knows names only.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand

if TYPE_CHECKING:
    from clew.serving.collector import Collector
    from clew.serving.grpc_server import GrpcServer
    from clew.serving.log import PredictionLog

__all__ = ["Collector", "GrpcServer", "PredictionLog"]

__getattr__ = on_demand(
    __name__,
    {"Collector": "collector", "GrpcServer": "grpc_server", "PredictionLog": "log"},
    package="clew.serving",
)
