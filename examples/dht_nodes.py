"""A private DHT on loopback, for the demonstration: `python dht_nodes.py PORT`, a node there and others beside it.

They know each other once TCP connections are taken at PORT.
"""

from __future__ import annotations

import socket
import sys
import time
from random import sample
from typing import Any, Final

import libtorrent

from regional.engines.dhtnode import settings

NODES: Final = 26
PEERS: Final = 8  # that each is told of


def known(session: Any) -> int:
    """Nodes in its routing table."""
    session.post_dht_stats()
    session.wait_for_alert(1000)
    found = [each.routing_table for each in session.pop_alerts() if isinstance(each, libtorrent.dht_stats_alert)]
    return sum(bucket["num_nodes"] for bucket in found[-1]) if found else 0


def main(port: int) -> None:
    """Run them until the process is ended."""
    sessions = [libtorrent.session(settings(f"127.0.0.1:{port if not each else 0}")) for each in range(NODES)]
    while not all(session.listen_port() for session in sessions):
        time.sleep(0.01)
    ports = [session.listen_port() for session in sessions]
    lonely = sessions
    while lonely := [session for session in lonely if known(session) < PEERS]:
        for session in lonely:
            for other in sample(ports, PEERS):
                session.add_dht_node(("127.0.0.1", other))
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        listener.accept()[0].close()
        for session in sessions:
            session.pop_alerts()


if __name__ == "__main__":
    main(int(sys.argv[1]))
