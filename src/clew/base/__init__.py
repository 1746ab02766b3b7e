"""The ground that every room stands on: ids, addresses, errors, time, settings and records.

Standard library only. Import the submodules: ``clew.base.errors``, ``clew.base.ids``,
``clew.base.clock``, ``clew.base.address``, ``clew.base.settings``, ``clew.base.records``.
"""
