"""What holds for all tests: output is as wide as where nobody looks."""

import os

os.environ.pop("COLUMNS", None)  # runners of tests in parallel set it for their own reports
