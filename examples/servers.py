"""Servers that keep packets, for the demonstration: those that this machine has, started on loopback, ended with it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from getpass import getuser
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

READY_S = 15.0
_given: set[int] = set()
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


class Program(NamedTuple):
    """library: what speaks to it, None where nothing is needed. command: of a port and a directory."""

    name: str
    package: str
    library: str | None
    command: Callable[[int, Path], Sequence[str]]


def _nats(port: int, home: Path) -> Sequence[str]:
    return "-js", "-sd", str(home), "-a", "127.0.0.1", "-p", str(port)


def _mqtt(port: int, home: Path) -> Sequence[str]:
    file = home / "mosquitto.conf"
    file.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        f"user {getuser()}\n"
    )
    return "-c", str(file)


def _etcd(port: int, home: Path) -> Sequence[str]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    return (
        "--data-dir", str(home), "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
    )  # fmt: skip


def _redis(port: int, home: Path) -> Sequence[str]:
    return "--bind", "127.0.0.1", "--port", str(port), "--dir", str(home), "--appendonly", "yes", "--save", ""


def _dht(port: int, home: Path) -> Sequence[str]:  # noqa: ARG001
    return str(Path(__file__).parent / "dht_nodes.py"), str(port)


PROGRAMS = {
    "nats": Program("nats-server", "nats-server", "nats", _nats),
    "mqtt": Program("mosquitto", "mosquitto", "aiomqtt", _mqtt),
    "etcd": Program("etcd", "etcd-server", None, _etcd),
    "redis": Program("redis-server", "redis-server", "redis", _redis),
    "dht": Program(sys.executable, "python3", "libtorrent", _dht),
}


def missing() -> dict[str, str]:
    """By scheme, how to get what this machine does not have."""
    found = {}
    for scheme, program in PROGRAMS.items():
        ways = []
        if shutil.which(program.name, path=_PATH) is None:
            ways.append(f"apt-get install {program.package}")
        if program.library is not None and find_spec(program.library) is None:
            ways.append(f"pip install 'kindred[{scheme}]'")
        if ways:
            found[scheme] = "; ".join(ways)
    return found


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[dict[str, str]]:
    """All that this machine has, ready; by scheme, the beginning of their address."""
    started: list[asyncio.subprocess.Process] = []
    urls: dict[str, str] = {}
    absent = missing()
    try:
        for scheme, program in PROGRAMS.items():
            path = shutil.which(program.name, path=_PATH)
            if scheme in absent or path is None:
                continue
            port, own = free_port(), home / scheme
            own.mkdir(parents=True)
            command = path, *program.command(port, own)
            with (home / f"{scheme}.log").open("wb") as log:
                started.append(
                    await asyncio.create_subprocess_exec(
                        *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
                    )
                )
            if await _listens(port):
                urls[scheme] = f"{scheme}://127.0.0.1:{port}"
        yield urls
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _listens(port: int) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_S):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return True
                await asyncio.sleep(0.05)
    return False


def free_port() -> int:
    """A port that both UDP and TCP can have, and that was not given before."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _given:
                _given.add(port)
                return port
