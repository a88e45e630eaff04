"""How a gateway asks networks: a reader for every scheme that an endpoint may have."""

from __future__ import annotations

from regional.client import NetworkClient
from regional.connections import Connections
from regional.reader import Readers


def readers() -> Readers:
    """None of them open yet."""

    def served() -> NetworkClient:
        return NetworkClient(Connections())

    return Readers({"http": served, "https": served})
