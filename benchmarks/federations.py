"""Real federations for benchmarks: processes on free ports, with their data deposited."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.cli.deposit import deposit_all
from gateway.cli.up import Processes
from gateway.configuration.config import FederationConfig

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A port that TCP and UDP can have."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        port = int(tcp.getsockname()[1])
        udp.bind(("127.0.0.1", port))
        return port


@asynccontextmanager
async def running(home: Path, text: str) -> AsyncIterator[tuple[FederationConfig, Processes]]:
    """The federation of `text`, where each PORTn stands for a free address; all `data` is deposited and covered."""
    for name in sorted(set(re.findall(r"PORT\d+", text)), key=len, reverse=True):
        text = re.sub(rf"{name}\b", f"127.0.0.1:{free_port()}", text)
    path = home / "federation.yaml"
    path.write_text(text.replace("examples/", f"{ROOT}/examples/"))
    config = FederationConfig.from_yaml(path)
    async with Processes(config, path) as processes:
        chosen = [(network, network.data) for network in config.networks.values() if network.data is not None]
        await deposit_all(config, chosen, quiet=True)
        yield config, processes
