"""What holds for all tests: output is as wide as where nobody looks, and no example is timed."""

import os

from hypothesis import settings

os.environ.pop("COLUMNS", None)  # runners of tests in parallel set it for their own reports

settings.register_profile("clew", deadline=None)
settings.load_profile("clew")
