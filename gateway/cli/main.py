"""Arguments, and what each command does with them."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from gateway.cli import check, deposit, networks, question, roles, up
from gateway.cli.exits import Exit
from registry.errors import ConfigError, InputError, KindredError, UnknownName

DESCRIPTION = "Kindred: DNS for what is alike. Ask the networks that hold outcomes of situations like yours."


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("-c", "--config", type=Path, default=Path("federation.yaml"), help="default: federation.yaml")
    shared.add_argument("--json", action="store_true", help="print JSON, for programs")
    top = argparse.ArgumentParser(prog="kindred", description=DESCRIPTION)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (up, roles, question, deposit, networks, check):
        module.add_commands(commands, shared)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, and says on standard error what went wrong."""
    options = parser().parse_args(arguments)
    try:
        return int(asyncio.run(options.run(options)))
    except KindredError as error:
        _complain(error, options.json)
        if isinstance(error, UnknownName) and error.where.get("path") == "domain":
            return Exit.NOBODY
        return Exit.USAGE if isinstance(error, (ConfigError, InputError)) else Exit.ERROR
    except KeyboardInterrupt:
        return Exit.ERROR
    except OSError as error:
        sys.stderr.write(f"kindred: {error}\n")
        return Exit.ERROR


def _complain(error: KindredError, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(error.problem()) + b"\n")
    sys.stderr.write(f"kindred: {error.detail}\n")
