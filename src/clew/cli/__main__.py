"""`python -m clew.cli`, the same as the command `clew`."""

from clew.cli import main

main()
