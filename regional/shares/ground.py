"""What a network stands on: how its shares come into being, and who looks after them."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from regional.network import Network
from regional.shares.moving import MovableEngine
from regional.shares.whereabouts import Place
from registry.clock import Clock


class Ground(Protocol):
    """What a network stands on: how its shares come into being."""

    clock: Clock
    overlap_s: float  # for so long anybody may rely on what the registry's zone said before

    def share(self, name: str, place: Place) -> tuple[Network, MovableEngine]:
        """A share of the network, not open yet."""

    def beside(self, place: Place, name: str) -> Place:
        """Where a share's packets are to be, when the network's are at `place`."""

    def advertise(self, network: Network) -> Coroutine[Any, Any, None]:
        """Keep a network covered, for ever."""

    def tabulate(self, network: Network) -> Coroutine[Any, Any, None]:
        """Keep the table of a network's moments, for ever."""
