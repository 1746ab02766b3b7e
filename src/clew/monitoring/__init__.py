"""Monitoring: live predictions compared with what the model learned from.

Knows no endpoint's insides and starts no training: it writes "drift seen", triggers read it.
"""

from clew.monitoring.definitions import DriftDefinition, MonitorDefinition, drift

__all__ = ["DriftDefinition", "MonitorDefinition", "drift"]
