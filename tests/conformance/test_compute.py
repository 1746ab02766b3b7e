"""Every place to run calls keeps the law of Compute."""

from clew.compute import InlinePool, ProcessPool
from clew.testing.compute import ComputeConformance


class TestProcessPool(ComputeConformance):
    def make(self, directory):
        return ProcessPool(2, directory / "scratch", directory / "logs")


class TestInlinePool(ComputeConformance):
    def make(self, directory):
        return InlinePool(directory)
