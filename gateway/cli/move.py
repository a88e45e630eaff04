"""`kindred move`: a network's packets are kept elsewhere from now on, while it serves."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.exits import Exit
from gateway.cli.ground import place_of, section_of
from gateway.cli.steer import LOOK_S, Steering
from gateway.configuration.config import FederationConfig
from gateway.configuration.keeping import EMBEDDED
from gateway.configuration.rewriting import rewrite_engine, stands_alone
from registry.clock import SystemClock
from registry.errors import ConfigError, Conflict


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("network", help="the network's name in federation.yaml, or that of one of its shares")
    command.add_argument("--engine", required=True, help="`embedded`, or a server's address; where it is: stop moving")
    command.add_argument("--user", help="where the server is guarded")
    command.add_argument("--password", help="file:PATH or env:VARIABLE, as the network's process sees it")
    command.add_argument("--ca", type=Path, help="certificates that the server's must be signed by")


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    given = {"at": options.engine, "user": options.user, "password": options.password, "ca": options.ca}
    section = section_of({name: str(value) for name, value in given.items() if value is not None})
    address = section.address(options.network, config.here)
    where = EMBEDDED if address is None else address.where
    place = place_of(section)
    async with Steering(config, options.network, SystemClock()) as steering:
        own = steering.network.name == options.network
        if own and not stands_alone(config, options.network):
            raise ConfigError(
                f"{config.file}: {options.network} stands there with others under one name; give it an entry of its "
                "own first (its process need not be started anew): `engine:` has to say where its packets are"
            )
        try:
            await steering.command("move", engine=place)
        except Conflict:
            # It may have moved already, and whoever moved it came to an end before the file said so.
            now = await steering.own_state()
            told = not own or config.networks[options.network].engine == section
            if told or now["to"] is not None or now["at"] != where:
                raise
        state = await _followed(steering, options.json)
        if own:
            # What the network notes beside its packets leads there anyway; the file says where they are.
            await asyncio.to_thread(rewrite_engine, Path(options.config), options.network, place)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(state) + b"\n")
    else:
        line = f"; {options.config} says so" if own else ""
        sys.stdout.write(f"{options.network}: {state['packets']:,} packets are at {state['at']}{line}\n")
    return Exit.DONE


async def _followed(steering: Steering, quiet: bool) -> dict[str, object]:
    """Wait until the packets are there, and told about troubles on the way. Raises Unavailable."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    told = None
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("copied", total=None)
        while (state := await steering.own_state())["to"] is not None or state["clearing"]:
            progress.update(task, completed=min(state["copied"], state["packets"]), total=state["packets"])
            if state["trouble"] != told and (told := state["trouble"]) is not None:
                sys.stderr.write(f"kindred: it goes on when this is over: {told}\n")
            await asyncio.sleep(LOOK_S)
    return dict(state)
