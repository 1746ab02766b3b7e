"""The command line: it prints and exits.

It knows the verbs of a workspace and nothing of where the workspace is.
"""

from clew.cli.app import main

__all__ = ["main"]
