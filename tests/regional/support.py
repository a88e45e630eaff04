"""A small domain, a registry that is not there, and packets, for the tests of networks."""

import numpy as np

from regional.engines.embedded.engine import EmbeddedEngine
from regional.network import Network
from regional.packets.packet import Packet
from registry.errors import Conflict, Unavailable
from registry.http.client import Known, Published
from registry.keys import SigningKey, verify_document
from registry.likeness.schema import Schema
from registry.publishing.coverage import Coverage

SCHEMA = Schema.from_document(
    {
        "title": "Toys",
        "study": "observational",
        "release": "packets",
        "min_cohort": 1,
        "bandwidth_floor": 0.1,
        "actions": {"a": "First", "b": "Second"},
        "features": {
            "x": {"kind": "number", "label": "X", "unit": "m", "scale": 1.0, "range": [-1000, 1000]},
            "y": {"kind": "number", "label": "Y", "unit": "m", "scale": 1.0, "range": [-1000, 1000]},
        },
        "outcomes": {
            "broke": {"kind": "binary", "label": "Broke"},
            "cost": {"kind": "number", "label": "Cost", "unit": "euro", "range": [0, 1000]},
            "life": {"kind": "duration", "label": "Life", "unit": "days"},
        },
    },
    "toys",
)
D = SCHEMA.dimension
KEY = SigningKey(bytes(32))


def packet(number, seq=1, action="a", point=None, **rest) -> Packet:
    """Packet `number` of network "one", at (number % 10, number // 10) unless told otherwise."""
    place = np.zeros(D, dtype=np.float32)
    place[:2] = (number % 10, number // 10) if point is None else point
    made = {"outcomes": {"broke": 1.0, "cost": 10.5, "life": (3.0, False)}, **rest}
    space8 = made.pop("space8", SCHEMA.space[:8])
    return Packet("toys", space8, "one", number.to_bytes(4, "big"), seq, 1.0, 2.0, place, action, **made)


def numbered(packets):
    return list(enumerate(packets, 1))


def make_network(path, writer, clock, min_cohort=1, schema=SCHEMA) -> Network:
    return Network("one", "toys", schema, EmbeddedEngine("one", D, path, writer), min_cohort, clock)


class FakeRegistry:
    """Holds the newest coverage of each network, as the registry does; `down` makes it unreachable."""

    def __init__(self):
        self.coverages = []
        self.renewals = []
        self.serial = 0
        self.down = False
        self.before_put = None

    async def put_coverage(self, network, document):
        assert document["network"] == network
        if self.before_put:
            await self.before_put()
        if self.down:
            raise Unavailable("the registry is down")
        verify_document(document, KEY.public)
        coverage = Coverage.from_document(document, D)
        if coverage.serial <= self.serial:
            raise Conflict("serial", serial=self.serial)
        self.serial = coverage.serial
        self.coverages.append(coverage)
        return Published(coverage.serial, coverage.serial)

    async def put_lease(self, network, document):
        assert document["network"] == network
        if self.down:
            raise Unavailable("the registry is down")
        verify_document(document, KEY.public)
        if document["serial"] != self.serial:
            raise Conflict("serial", serial=self.serial)
        self.renewals.append(document)

    async def network(self, name):
        assert name == "one"
        if self.down:
            raise Unavailable("the registry is down")
        return Known(self.serial, self.serial)
