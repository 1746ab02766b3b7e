"""The command line: it prints and exits.

It knows the verbs of a workspace and nothing of where the workspace is.
"""

import sys
from importlib import import_module

from clew.cli.early import begin, end

__all__ = ["main"]


def main() -> None:
    """Run the command of ``sys.argv`` and exit."""
    begin(sys.argv[1:])
    try:
        import_module("clew.cli.app").main()
    finally:
        end()
