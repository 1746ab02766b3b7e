"""What reads and writes the prediction log, loaded once there is one: it brings numpy.

Knows names only.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand

if TYPE_CHECKING:
    from clew.serving.collector import Collector
    from clew.serving.log import PredictionLog

__all__ = ["Collector", "PredictionLog"]

__getattr__ = on_demand(
    __name__, {"Collector": "collector", "PredictionLog": "log"}, package="clew.serving"
)
