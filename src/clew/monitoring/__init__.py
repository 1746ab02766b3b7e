"""Monitoring: live predictions compared with what the model learned from.

Knows no endpoint's insides and starts no training: it writes "drift seen", triggers read it.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.monitoring.definitions import Around, DriftDefinition, MonitorDefinition, drift

if TYPE_CHECKING:
    from clew.monitoring.monitoring import Monitoring

__all__ = ["Around", "DriftDefinition", "MonitorDefinition", "Monitoring", "drift"]

__getattr__ = on_demand(
    __name__,
    {
        "Monitoring": "monitoring",
    },
)
