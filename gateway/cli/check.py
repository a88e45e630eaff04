"""`kindred check`: read the whole configuration and every schema, start nothing."""

from __future__ import annotations

import argparse
import sys

import orjson

from gateway.cli.exits import Exit
from gateway.configuration.config import FederationConfig


def add_arguments(_command: argparse.ArgumentParser) -> None:
    """It has none of its own."""


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    schemas = config.schemas()
    missing = sorted({str(each.data) for each in config.networks.values() if each.data and not each.data.is_file()})
    report = {
        "file": config.file,
        "domains": {
            name: {
                "space": schema.space.hex(),
                "schema": schema.digest.hex(),
                "dimension": schema.dimension,
                "networks": sum(each.domain == name for each in config.networks.values()),
            }
            for name, schema in schemas.items()
        },
        "networks": len(config.networks),
        "processes": len(config.processes()),
        "missing_data": missing,
    }
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(report) + b"\n")
    else:
        for name, domain in report["domains"].items():  # type: ignore[attr-defined]
            sys.stdout.write(
                f"{name}: {domain['networks']} networks, d={domain['dimension']}, space {domain['space'][:16]}\n"
            )
        sys.stdout.write(f"{report['networks']} networks in {report['processes']} processes\n")
    for path in missing:
        sys.stderr.write(f"kindred: no such data file: {path}\n")
    return Exit.ERROR if missing else Exit.DONE
