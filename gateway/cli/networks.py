"""`kindred networks`: who covers which domain, as the registry tells it."""

from __future__ import annotations

import argparse
import asyncio
import sys

import orjson
from rich.table import Table

from gateway.cli.exits import Exit
from gateway.cli.render import console
from gateway.federation import Federation


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("domain", nargs="?", help="default: every domain")


async def run(options: argparse.Namespace) -> int:
    async with Federation.open(options.config) as federation:
        domains = [options.domain] if options.domain else sorted(federation.schemas)
        parts = await asyncio.gather(*(federation.networks(domain) for domain in domains))
    listed = [network for part in parts for network in part]
    if options.json:
        sys.stdout.buffer.write(orjson.dumps({"networks": listed}) + b"\n")
    else:
        table = Table("domain", "network", "packets", "uncovered", "serial", "age", "lease", "endpoint", box=None)
        for each in listed:
            table.add_row(
                str(each["domain"]),
                str(each["name"]),
                f"{each['packets']:,}",
                f"{each['uncovered']:,}",
                str(each["serial"]),
                f"{each['age_s']:.0f} s",
                "lapsed" if each["lapsed"] else "current",
                " ".join(str(uri) for uri in each["endpoints"]),  # type: ignore[attr-defined]
            )
        console().print(table)
    return Exit.DONE if listed else Exit.NOBODY
