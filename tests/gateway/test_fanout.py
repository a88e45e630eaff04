"""What a gateway does not read, whatever a registry publishes: packets of a domain that releases aggregates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.disposition import Disposition
from gateway.fetching.deadline import Deadline
from gateway.fetching.fanout import Fanout
from regional.client import NearestReply, NearestRequest
from regional.reader import reply_of
from registry.clock import ManualClock
from registry.geometry.cell import Naming
from registry.likeness.schema import Schema

SCHEMA = Schema.from_yaml(Path(__file__).parent.parent.parent / "examples/domains/crash.yaml")
NAMING = Naming("crash.vehicles", "kindred.internal.")


class Everywhere:
    """A resolver that knows one endpoint of every network."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    async def network(self, *_: object) -> object:
        text = type("Text", (), {"serial": 7, "issued": 1.0, "home": None})
        return type("Kept", (), {"value": type("Info", (), {"text": text, "endpoints": (self.endpoint,)})})


class Finding:
    """A reader that is asked anywhere."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    async def prepare(self, endpoint: str, request: NearestRequest, timeout_s: float) -> None:
        assert request.network == "one"
        self.asked.append((endpoint, timeout_s))

    async def nearest(self, endpoint: str, request: NearestRequest, timeout_s: float) -> NearestReply:
        self.asked.append((endpoint, timeout_s))
        return reply_of(request, [], {})

    async def close(self) -> None:
        self.asked.clear()


@pytest.mark.parametrize("release", ["packets", "aggregates"])
@pytest.mark.parametrize("endpoint", ["nats://127.0.0.1:4222/one", "dht:abc", "https://h/one", "http://h/one"])
async def test_packets_are_read_only_where_they_are_released(endpoint: str, release: str) -> None:
    reader = Finding()
    schema = replace(SCHEMA, release=release)
    fanout = Fanout(Everywhere(endpoint), reader, NAMING, schema, Deadline(ManualClock(), 1.0))  # type: ignore[arg-type]
    fingerprint = np.zeros(schema.dimension, dtype=np.float32)
    request = NearestRequest(NAMING.domain, "one", schema.space, fingerprint, 5)
    await fanout.prepare("one", request)
    answered = await fanout.ask("one", request, lapsed=False)
    if release == "packets" or endpoint.startswith("http"):
        assert [where for where, _ in reader.asked] == [endpoint] * 2
        assert all(0 < timeout_s <= 1.0 for _, timeout_s in reader.asked)
        assert answered.outcome.disposition is Disposition.ANSWERED
    else:
        assert reader.asked == []
        assert answered.outcome.disposition is Disposition.REFUSED
        assert f"crash.vehicles releases aggregates; what is read at {endpoint.partition(':')[0]}:" in str(
            answered.outcome.reason
        )
