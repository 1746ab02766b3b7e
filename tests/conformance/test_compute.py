"""Every place to run calls keeps the law of Compute."""

from clew.compute import ProcessPool
from clew.compute.inline import InlinePool
from clew.testing.compute import ComputeConformance


class TestProcessPool(ComputeConformance):
    def make(self, directory):
        return ProcessPool(2, directory / "scratch", directory / "logs")


class TestInlinePool(ComputeConformance):
    def make(self, directory):
        return InlinePool(directory)
