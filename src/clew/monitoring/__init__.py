"""Monitoring: live predictions compared with what the model learned from.

Knows no endpoint's insides and starts no training: it writes "drift seen", triggers read it.
"""

from clew.monitoring.definitions import DriftDefinition, MonitorDefinition, drift
from clew.monitoring.monitoring import Monitoring

__all__ = ["DriftDefinition", "MonitorDefinition", "Monitoring", "drift"]
