"""Schedules: the instants of cron expressions, ``@every 5m`` and their like, as values.

Knows nothing of what happens at an instant.
"""

from clew.schedules.schedules import Schedule, schedule

__all__ = ["Schedule", "schedule"]
