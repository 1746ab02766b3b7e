"""Run one call somewhere else: in this process, or in warm worker processes with limits.

Knows nothing of steps, trials and models, which are what is called.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.compute.auditing import Witness
from clew.compute.call import Call, CallContext, CallError, Compute, Handle, Outcome
from clew.compute.pool import ProcessPool
from clew.compute.running import describe as describe_error
from clew.compute.snapshots import load_function, load_module

if TYPE_CHECKING:
    from clew.compute.clusters import RayPool

__all__ = [
    "Call",
    "CallContext",
    "CallError",
    "Compute",
    "Handle",
    "Outcome",
    "ProcessPool",
    "RayPool",
    "Witness",
    "describe_error",
    "load_function",
    "load_module",
]

__getattr__ = on_demand(__name__, {"RayPool": "clusters"})
