"""`kindred split`: a network becomes several shares, each of which covers fewer regions, while it serves."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.cli.exits import Exit
from gateway.cli.steer import LOOK_S, Steering
from gateway.configuration.config import FederationConfig
from registry.clock import SystemClock

_STEPS = {
    "copying": "what belongs to the shares is copied",
    "both": "the shares are about to be covered",
    "leaving": "the shares are covered; until nobody can know otherwise, the network answers for all",
    "parted": "each share keeps its own",
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("network", help="the network's name in federation.yaml")
    command.add_argument("--into", type=int, default=2, help="how many shares, the network itself being one; default 2")


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    async with Steering(config, options.network, SystemClock()) as steering:
        state: Mapping[str, Any] = await steering.command("split", into=options.into)
        told: object = None
        while True:
            if (state["step"], state["trouble"]) != told and not options.json:
                told = state["step"], state["trouble"]
                trouble = "" if state["trouble"] is None else f" (it goes on when this is over: {state['trouble']})"
                sys.stderr.write(f"{options.network}: {_STEPS[state['step']]}{trouble}\n")
            if state["step"] == "parted":
                break
            await asyncio.sleep(LOOK_S)
            state = await steering.state()
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(dict(state)) + b"\n")
    else:
        for share in state["shares"]:
            sys.stdout.write(f"{share['name']}: {share['packets']:,} packets at {share['at']}\n")
    return Exit.DONE
