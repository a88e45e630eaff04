"""The command line `kindred`."""

from gateway.cli.main import main

__all__ = ["main"]
