"""Conformance suites for every plug: subclass one, say how to make yours, run it under pytest.

No room imports this package.
"""
