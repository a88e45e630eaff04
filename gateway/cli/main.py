"""Arguments, and what each command does with them."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

import orjson

from gateway.cli.exits import Exit
from registry.errors import ConfigError, InputError, KindredError, UnknownName

DESCRIPTION = "Kindred: DNS for what is alike. Ask the networks that hold outcomes of situations like yours."


# Each is a module of gateway.cli with `add_arguments` and `run`; only the one that is run is loaded.
COMMANDS: dict[str, str] = {
    "up": "run the whole federation on this machine; prints `ready`, stops on Ctrl-C",
    "ask": "what happened to others in this situation, by what was done",
    "resolve": "show the walk through the registry, like dig",
    "deposit": "deposit a file's rows with a network, or with --all every network's own data",
    "withdraw": "take a node out of its network, for good, with a receipt",
    "move": "keep a network's packets elsewhere from now on, while it serves",
    "split": "split a network into shares that each cover fewer regions, while it serves",
    "networks": "the networks of a domain, or of all",
    "check": "check federation.yaml, its schemas and data files; starts nothing",
    "conformance": "examine a registry from outside: does it do what docs/protocol.md says",
    "registry": "run the registry: its name server and the service that takes coverages",
    "network": "run networks: all of one process, or one by name",
    "gateway": "run the gateway",
}


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The commands; with the arguments of `command`, if it is one."""
    top = argparse.ArgumentParser(prog="kindred", description=DESCRIPTION)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        each = commands.add_parser(name, help=text, description=text)
        each.add_argument("-c", "--config", type=Path, default=Path("federation.yaml"), help="default: federation.yaml")
        each.add_argument("--json", action="store_true", help="print JSON, for programs")
        if name == command:
            module = import_module(f"gateway.cli.{name}")
            module.add_arguments(each)
            each.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, and says on standard error what went wrong."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parse(arguments)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return int(runner.run(options.run(options)))
    except KindredError as error:
        _complain(error, options.json)
        if isinstance(error, UnknownName) and error.where.get("path") == "domain":
            return Exit.NOBODY
        return Exit.USAGE if isinstance(error, (ConfigError, InputError, UnknownName)) else Exit.ERROR
    except KeyboardInterrupt:
        return Exit.ERROR
    except OSError as error:
        sys.stderr.write(f"kindred: {error}\n")
        return Exit.ERROR


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (the extra `uvloop`), else asyncio's own loop."""
    try:
        return cast(Callable[[], asyncio.AbstractEventLoop], import_module("uvloop").new_event_loop)
    except ModuleNotFoundError:
        return None


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; FEATURE=VALUE may also stand behind them, where argparse alone does not see it."""
    top = parser(arguments[0] if arguments else None)
    options, more = top.parse_known_args(arguments)
    if any(each.startswith("-") or "=" not in each or not hasattr(options, "features") for each in more):
        top.error(f"unrecognized arguments: {' '.join(more)}")
    if more:
        options.features = [*options.features, *more]
    return options


def _complain(error: KindredError, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(error.problem()) + b"\n")
    sys.stderr.write(f"kindred: {error.detail}\n")
