"""How a gateway asks networks: a reader for every scheme that an endpoint may have."""

from __future__ import annotations

from regional.client import NetworkClient
from regional.reader import Readers


def readers(served: NetworkClient) -> Readers:
    """None of them open yet but the one for networks with a service of their own."""
    return Readers({"http": lambda: served, "https": lambda: served})
