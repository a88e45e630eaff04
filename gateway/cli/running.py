"""What every role does: serve over HTTP, say `ready`, run until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from gateway.cli.exits import Exit
from gateway.configuration.section import Address
from registry.errors import ConfigError
from registry.http.httpserver import HttpServer

READY = "ready"


@asynccontextmanager
async def serving(app: web.Application, listen: Address, shared: bool = False) -> AsyncIterator[HttpServer]:
    """`app` answers at `listen` for as long as the context lasts. Raises ConfigError where the port is taken."""
    server = HttpServer(app, listen.host, listen.port, shared=shared)
    try:
        await server.start()
    except OSError as error:
        raise ConfigError(f"cannot listen on {listen}: {error.strerror or error}; choose another port") from None
    try:
        yield server
    finally:
        await server.close()


def add_attached(command: argparse.ArgumentParser) -> None:
    """The option `--attached`, which every role has."""
    command.add_argument("--attached", action="store_true", help="end when standard input ends, as `kindred up` does")


async def until_signal(attached: bool = False) -> int:
    """Say `ready`, and wait for SIGINT or SIGTERM; where `attached`, also for the end of standard input.

    Whoever holds the other end of that pipe need not live to say so: the system closes it.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if attached:
        loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 4096) else stop.set())
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    await stop.wait()
    if attached:
        loop.remove_reader(sys.stdin.fileno())
    return Exit.DONE
