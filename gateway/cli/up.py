"""`kindred up`: every role of the federation on this machine, each in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.cli.exits import Exit
from gateway.cli.running import READY
from gateway.configuration.config import FederationConfig
from gateway.configuration.transferring import make_secret
from registry.errors import Unavailable
from registry.keys import SigningKey

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


def add_arguments(_command: argparse.ArgumentParser) -> None:
    """It has none of its own."""


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Processes(config, options.config) as processes:
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        stopped = asyncio.create_task(stop.wait())
        ended = asyncio.create_task(processes.any_ended())
        await asyncio.wait([stopped, ended], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        ended.cancel()
        if not stop.is_set():
            raise Unavailable(f"{ended.result()} ended by itself, so all end; its log says why")
    return Exit.DONE


class Processes:
    """The federation's processes, from all ready to all ended. `pids` by role: registry, gateway, network process."""

    def __init__(self, config: FederationConfig, path: Path) -> None:
        self._config = config
        self._path = path
        self._children: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Processes:
        make_keys(self._config)
        try:
            await self._start("registry", ["registry"])
            networks = (self.start_network(name) for name in self._config.processes())
            workers = range(1, self._config.gateway.workers + 1)
            gateways = (self._start("gateway" if n == 1 else f"gateway-{n}", ["gateway"]) for n in workers)
            await asyncio.gather(*networks, *gateways)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
        waiting = [asyncio.wait_for(child.wait(), STOP_TIMEOUT_S) for child in self._children.values()]
        for child, result in zip(
            self._children.values(), await asyncio.gather(*waiting, return_exceptions=True), strict=True
        ):
            if isinstance(result, BaseException):
                child.kill()
                await child.wait()

    @property
    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items()}

    async def start_network(self, process: str) -> None:
        """Start the networks of one process."""
        await self._start(process, ["network", "--process", process])

    async def kill(self, name: str) -> None:
        """End one process at once, as a crash would."""
        child = self._children.pop(name)
        child.kill()
        await child.wait()

    async def any_ended(self) -> str:
        """Wait until some process has ended; says which, how, and where its log is."""
        names = {asyncio.create_task(child.wait()): name for name, child in self._children.items()}
        done, _ = await asyncio.wait(names, return_when=asyncio.FIRST_COMPLETED)
        first = done.pop()
        name = names[first]
        return f"the process {name} (exit code {first.result()}, log {self._config.data_dir / 'log' / name}.log)"

    async def _start(self, name: str, arguments: Sequence[str]) -> None:
        logs = self._config.data_dir / "log"
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{name}.log"
        command = [sys.executable, "-m", "gateway.cli", *arguments, "--attached", "--config", str(self._path)]
        with log.open("ab") as sink:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,  # held open: a child ends when this process is gone, however it went
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self._children[name] = child
        if child.stdout is None:
            raise Unavailable(f"{name}: no pipe to its output")
        try:
            line = await asyncio.wait_for(child.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            raise Unavailable(f"{name} was not ready within {START_TIMEOUT_S:.0f} s; see {log}") from None
        if line.strip() != READY.encode():
            tail = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise Unavailable(f"{name} did not start: {tail[0] if tail else 'it ended'} (log: {log})")


def make_keys(config: FederationConfig) -> None:
    """A key for every network, every transfer, and this registry as a member of others; for one machine, where one is
    everybody."""
    own = [network.name for network in config.networks.values() if network.key is None]
    for name in (*own, *(parent.name for parent in config.registry.parents.values())):
        path = config.data_dir / "keys" / name
        if not path.exists():
            SigningKey.create(path)
    for path in config.secret_files():
        if not path.exists():
            make_secret(path)
