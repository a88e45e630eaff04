"""A private DHT on loopback: nodes of libtorrent in child processes, started by the tests and ended by their ids."""

from __future__ import annotations

import random
import socket
import sys
from pathlib import Path
from time import monotonic, sleep

import libtorrent

from examples.dht_nodes import known
from regional.engines.dht.node import settings
from tests.engines.servers import Process, Servers, some_ports

NODES = 26
PEERS = 8
KNOWN = 6
PATIENCE_S = 20.0


class DhtRing(Servers):
    """`nodes` nodes in two processes; killing the second one turns 30% of them off."""

    scheme = "dht"

    def __init__(self, home: Path, nodes: int = NODES) -> None:
        super().__init__(home)
        *ports, first, second = some_ports(nodes + 2)
        self.ports = ports
        self._most = ports[: len(ports) - round(0.3 * len(ports))]
        for number, (ready, mine) in enumerate(((first, self._most), (second, ports[len(self._most) :]))):
            command = [
                sys.executable,
                "-m",
                "tests.engines.dht_ring",
                str(ready),
                *map(str, mine),
                "-",
                *map(str, ports),
            ]
            self.processes.append(Process(command, home / f"dht{number}.log", ready))

    @property
    def servers(self) -> list[tuple[str, int]]:
        """Through which others join."""
        return [("127.0.0.1", port) for port in self.ports[:PEERS]]

    @property
    def hosts(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.servers)


def main(arguments: list[str]) -> None:
    """READY OWN... - ALL...: run nodes at the ports OWN of a DHT of ALL; listen at READY once they know each other."""
    at = arguments.index("-")
    ready, *mine = map(int, arguments[:at])
    everyone = list(map(int, arguments[at + 1 :]))
    sessions = [libtorrent.session(settings(f"127.0.0.1:{port}")) for port in mine]
    chance = random.SystemRandom()
    end = monotonic() + PATIENCE_S
    lonely = list(zip(mine, sessions, strict=True))
    while lonely and monotonic() < end:
        for port, session in lonely:
            for other in chance.sample([each for each in everyone if each != port], min(PEERS, len(everyone) - 1)):
                session.add_dht_node(("127.0.0.1", other))
        sleep(0.05)
        lonely = [(port, session) for port, session in lonely if known(session) < min(KNOWN, len(mine) - 1)]
    listener = socket.create_server(("127.0.0.1", ready))
    while True:
        listener.accept()[0].close()
        for session in sessions:
            session.pop_alerts()


if __name__ == "__main__":
    main(sys.argv[1:])
