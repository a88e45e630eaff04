"""Six continents in virtual time: a gateway, registries and networks with cited round trips between them.

Round trips: Microsoft, "Azure network round-trip latency statistics" (learn.microsoft.com/azure/networking/
azure-network-latency), medians of the 30 days that ended on 30 July 2026, between East US, Brazil South, West Europe,
South Africa North, Southeast Asia and Australia East; the longer of the two directions. Within a continent: East US to
West US, West Europe to Italy North, South Africa North to West, Southeast Asia to Japan East, Australia East to New
Zealand North; for South America, which has one region, as Africa. Between the data centres of one region: "less than
approximately 2 ms" (Microsoft, "What are availability zones?", as it stood until February 2025). A backbone: an asker
behind a slow line adds that line's own delay, the same for every way of asking.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cbor2
import numpy as np
import orjson

from benchmarks.grown import ISSUED, NAMING, Grown, K
from benchmarks.virtual import Server, VirtualClock, VirtualLoop
from gateway.federation import Federation
from gateway.fetching.cache import Cache
from gateway.question import Mode, Question
from regional.client import NetworkClient
from regional.connections import Connections
from registry.resolving.authorities import Authorities
from registry.resolving.lookup import Lookups
from registry.serving.responder import respond
from registry.zones.zone import Ttls, ZoneSet, origin_zone

CONTINENTS = ("north-america", "south-america", "europe", "africa", "asia", "oceania")
ROUND_TRIPS_MS = (  # rows and columns in the order of CONTINENTS
    (69, 118, 85, 220, 224, 202),
    (118, 20, 185, 321, 331, 295),
    (85, 185, 22, 166, 169, 265),
    (220, 321, 166, 20, 177, 328),
    (224, 331, 169, 177, 72, 95),
    (202, 295, 265, 328, 95, 28),
)
BESIDE_MS = 2
DOMAIN_SERVER = "192.0.2.53"  # of the domain's own name server, as the origin's refers to it
Trips = Callable[[str], float]  # the round trip to a host, in seconds


def endpoint_of(network: str) -> str:
    """Where a network is: its continent by its number."""
    return f"http://{network}.{CONTINENTS[int(network[1:]) % len(CONTINENTS)]}.example:80"


def trips_from(here: str) -> Trips:
    """From a continent to hosts named `<name>.<continent>.example`."""
    row = ROUND_TRIPS_MS[CONTINENTS.index(here)]
    return lambda host: row[CONTINENTS.index(host.split(".")[-2])] / 1000


def served_beside(trips: Trips) -> Trips:
    """The same, with name servers in the gateway's own region."""
    return lambda host: BESIDE_MS / 1000 if host.startswith("ns.") else trips(host)


@dataclass(frozen=True, slots=True)
class Timed:
    """One question in virtual time. seconds: from question to answer; cold: with nothing kept; farthest: the
    longest round trip to a network that was asked; connections: set up for it; complete: as the certificate says.
    """

    seconds: float
    farthest: float
    connections: int
    lookups: int
    asked: int
    complete: bool


class World:
    """One gateway in front of a grown federation, on a virtual loop; it keeps its cache and connections."""

    def __init__(self, grown: Grown, registry: str, trips: Trips) -> None:
        """registry: the host of the origin's name server; the domain's is beside it. trips: to every host."""
        self._grown = grown
        self._trips = trips
        self._registry = registry
        self._asked: set[str] = set()
        self._lookups = 0
        self.loop = VirtualLoop(self._connect)
        self._clock = VirtualClock(self.loop, ISSUED)
        origin = origin_zone(NAMING.origin, [NAMING.domain], int(ISSUED), Ttls(), [DOMAIN_SERVER])
        self._zones = ZoneSet([origin, grown.zone])
        self._connections = Connections()
        self._federation = Federation(
            schemas={NAMING.domain: grown.schema},
            origin=NAMING.origin,
            lookups=Lookups(Authorities(NAMING.origin, [(registry, 53)], self._clock)),
            reader=(served := NetworkClient(self._connections)),
            served=served,
            clock=self._clock,
            cache=Cache(self._clock, 1 << 30, 30.0),
            deadline_s=60.0,
        )

    def ask(self, fingerprint: np.ndarray, mode: Mode) -> Timed:
        """Ask once, to the end."""
        self._asked.clear()
        self._lookups = 0
        began, connections = self.loop.time(), self.loop.connections
        question = Question(
            domain=NAMING.domain,
            fingerprint=[float(each) for each in fingerprint],
            space=self._grown.schema.space.hex(),
            k=K,
            mode=mode,
            neighbours=False,
        )
        answer = self.loop.run_until_complete(self._federation.ask(question))
        return Timed(
            seconds=self.loop.time() - began,
            farthest=max(map(self._trips, self._asked), default=0.0),
            connections=self.loop.connections - connections,
            lookups=self._lookups,
            asked=len(self._asked),
            complete=answer.certificate.neighbours_complete,
        )

    def close(self) -> None:
        """End what is under way."""
        self.loop.run_until_complete(self._federation.resolver.cache.close())
        self.loop.run_until_complete(self._connections.__aexit__())
        self.loop.close()

    def _connect(self, host: str, port: int) -> tuple[float, Server]:
        if port == 53:
            return self._trips(self._registry), _NameServer(self)
        return self._trips(host), _Network(self, host)

    def answer_dns(self, query: bytes) -> bytes:
        """What the registry's name server says."""
        self._lookups += 1
        return respond(self._zones, query, 65535, over_tcp=True) or b""

    def answer_nearest(self, host: str, asked: Mapping[str, object]) -> bytes:
        """What a network says to `POST /v1/nearest`."""
        self._asked.add(host)
        query = np.frombuffer(base64.b64decode(str(asked["fingerprint"])), dtype="<f4").astype(np.float64)
        within = asked.get("within")
        radius = {"": float(within)} if isinstance(within, int | float) else {}
        batch = self._grown.coverages.reply(host.split(".", maxsplit=1)[0], query, K, radius)
        packets = [each.to_cbor() for each in batch]
        return cbor2.dumps({"serial": 1, "packets": packets, "tied": {"": 1} if packets else {}, "truncated": False})


class _NameServer:
    """Length-prefixed questions, answered in order (RFC 7766)."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._received = b""

    def received(self, data: bytes) -> list[bytes]:
        self._received += data
        answers = []
        while len(self._received) >= 2:
            end = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) < end:
                break
            answer = self._world.answer_dns(self._received[2:end])
            answers.append(len(answer).to_bytes(2, "big") + answer)
            self._received = self._received[end:]
        return answers


class _Network:
    """Requests whole in one piece, as the gateway's client sends them."""

    def __init__(self, world: World, host: str) -> None:
        self._world = world
        self._host = host

    def received(self, data: bytes) -> list[bytes]:
        body = self._world.answer_nearest(self._host, orjson.loads(data.partition(b"\r\n\r\n")[2]))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: {len(body)}\r\n\r\n"
        return [head.encode() + body]
