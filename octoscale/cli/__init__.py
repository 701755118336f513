"""The command line: parses, calls, prints."""

from octoscale.cli.entry import main

__all__ = ["main"]
