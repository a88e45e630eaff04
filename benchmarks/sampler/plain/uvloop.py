"""Stands in the way of uvloop, so that a process runs on asyncio's own loop as if it were not installed."""

raise ModuleNotFoundError("left out for comparison", name="uvloop")
