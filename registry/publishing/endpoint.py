"""Where a network is asked: a URI whose scheme says what answers there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from registry.errors import ConfigError

SERVED: Final = frozenset({"http", "https"})  # a service answers; at any other, packets are read as they are kept


def scheme_of(endpoint: str) -> str:
    """`nats` of `nats://127.0.0.1:4222/farms`."""
    return endpoint.partition(":")[0].lower()


def shows_packets(endpoint: str) -> bool:
    """Whether who asks there reads every packet, whatever the domain releases."""
    return scheme_of(endpoint) not in SERVED


def check_endpoints(network: str, domain: str, release: str, endpoints: Iterable[str]) -> None:
    """Raise ConfigError for an endpoint that shows packets in a domain that does not release them."""
    for endpoint in endpoints:
        if release != "packets" and shows_packets(endpoint):
            raise ConfigError(
                f"network {network}: {domain} releases {release}, and who asks at {scheme_of(endpoint)}: reads every "
                "packet there; let the network answer questions itself"
            )
