"""Who asks a network is chosen by the scheme of its endpoint, opened when first needed, and kept."""

from __future__ import annotations

import numpy as np
import pytest

from regional.client import Failed, NearestReply, NearestRequest
from regional.packets.packet import Packet
from regional.reader import Readers, reply_of
from registry.errors import ConfigError

SPACE = bytes(range(32))
REQUEST = NearestRequest("tests", "net", SPACE, np.zeros(2, dtype=np.float32), 5)


class Noting:
    """A reader that finds nothing, and remembers where it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float]] = []
        self.closed = 0

    async def prepare(self, endpoint: str, request: NearestRequest, timeout_s: float) -> None:
        self.asked.append((f"prepare {endpoint}", request.network, timeout_s))

    async def nearest(self, endpoint: str, request: NearestRequest, timeout_s: float) -> NearestReply:
        self.asked.append((endpoint, request.network, timeout_s))
        return reply_of(request, [], {})

    async def close(self) -> None:
        self.closed += 1


async def test_a_reader_is_opened_when_it_is_needed_and_kept() -> None:
    opened: list[Noting] = []

    def open_one() -> Noting:
        opened.append(Noting())
        return opened[-1]

    other = Noting()
    readers = Readers({"nats": open_one, "mqtt": open_one, "dht": lambda: other})
    await readers.prepare("nats://a/x", REQUEST, 1.0)
    assert len((await readers.nearest("NATS://a/x", REQUEST, 1.0)).packets) == 0
    await readers.nearest("mqtt://b/y", REQUEST, 2.0)
    assert len(opened) == 1
    assert opened[0].asked == [
        ("prepare nats://a/x", "net", 1.0),
        ("NATS://a/x", "net", 1.0),
        ("mqtt://b/y", "net", 2.0),
    ]
    await readers.close()
    assert (opened[0].closed, other.closed) == (1, 0)


async def test_what_nobody_can_read_fails_by_name() -> None:
    def missing() -> Noting:
        raise ConfigError("libtorrent is not installed")

    readers = Readers({"https": Noting, "dht": missing})
    for endpoint in ("gopher://a/x", "no url", "", "//a"):
        with pytest.raises(Failed, match=r"nobody here can read.*there are https:, dht:"):
            await readers.nearest(endpoint, REQUEST, 1.0)
    with pytest.raises(Failed, match="libtorrent is not installed"):
        await readers.prepare("dht://a", REQUEST, 1.0)
    await readers.close()


def test_a_reply_holds_packets_of_the_network_that_was_asked_only() -> None:
    def packet(**other: object) -> bytes:
        made = {
            "domain": "tests",
            "space8": SPACE[:8],
            "network": "net",
            "node": b"n",
            "seq": 1,
            "t0": 1.0,
            "time": 1.0,
        }
        return Packet(**{**made, "fingerprint": np.ones(2, dtype=np.float32), "action": "a", **other}).to_cbor()  # type: ignore[arg-type]

    assert reply_of(REQUEST, [packet()], {"a": 1}).packets.nodes == [b"n"]
    for wrong in (
        {"domain": "other"},
        {"network": "not"},
        {"space8": bytes(8)},
        {"fingerprint": np.ones(3, np.float32)},
    ):
        with pytest.raises(Failed):
            reply_of(REQUEST, [packet(**wrong)], {})
