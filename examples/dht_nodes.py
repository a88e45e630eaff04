"""A private DHT on loopback, for the demonstration: `python dht_nodes.py PORT`, a node there and others beside it.

The one at PORT is the last to come, when the others know each other; libtorrent takes TCP connections there, too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from random import sample
from typing import Any, Final

import libtorrent

from regional.engines.dht.node import settings

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
    sessions = [libtorrent.session(settings("127.0.0.1:0")) for _ in range(NODES - 1)]
    while not all(session.listen_port() for session in sessions):
        time.sleep(0.01)
    ports = [session.listen_port() for session in sessions]
    lonely = sessions
    while lonely := [session for session in lonely if known(session) < PEERS]:
        for session in lonely:
            meet(session, ports)
    sessions.append(libtorrent.session(settings(f"127.0.0.1:{port}")))
    meet(sessions[-1], ports)
    while True:
        time.sleep(1.0)
        for session in sessions:
            session.pop_alerts()


def meet(session: Any, ports: Sequence[int]) -> None:
    """Tell it of some of those at these ports."""
    for other in sample(ports, PEERS):
        session.add_dht_node(("127.0.0.1", other))


if __name__ == "__main__":
    main(int(sys.argv[1]))
