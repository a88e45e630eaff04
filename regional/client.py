"""Talking to a network, from outside: a peer that may be slow, endless, lying or no network at all.

Nothing is followed (no redirect), nothing is unpacked (no compression), nothing is read beyond a cap, and a
reply counts only if every packet in it is one that was asked for.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import cbor2
import orjson

from regional.connections import BadReply, Connections
from regional.packets.batch import Batch
from regional.packets.deposit import DepositReport
from regional.packets.packet import Packet
from regional.packets.packetcbor import Fingerprint
from regional.releasing.atombatch import AtomBatch
from registry import jsontext
from registry.errors import DocumentError, KindredError, Moved, PacketError

EPOCH = "Kindred-Epoch"  # header of a question
MAX_ARMS = 64
MAX_REPLY = 64 * 1024 * 1024
MAX_DOCUMENT = 32 * 1024 * 1024
MAX_TABLE = 8 * 1024 * 1024
MAX_TIED = 2**40  # as many packets as a region may count
_PACKET_ROOM = 1000  # bytes: a packet of at most 996 and the head of its byte string
_THREAD_ABOVE = 256 * 1024  # bytes; decoding more than this would hold up the event loop
_REFUSALS = frozenset({401, 403, 409, 429})


class NetworkFailure(KindredError):
    """What a question to a network ended in, if not in an answer; `detail` says why."""

    status, code, title = 502, "network", "The network did not answer"


class Refused(NetworkFailure):
    """The network answered that it will not."""


class TimedOut(NetworkFailure):
    """The time was over before the answer was there."""


class Failed(NetworkFailure):
    """Unreachable, or it answered what is no answer."""


class HandedOver(Failed):
    """It holds less than who asks knows of: what the registry's zone said before `epoch` is not so any more."""

    def __init__(self, detail: str, epoch: int) -> None:
        super().__init__(detail)
        self.epoch = epoch


@dataclass(frozen=True, slots=True, eq=False)
class NearestRequest:
    """Which packets are asked for, and what every one of them must be like.

    space: the 32 bytes of the digest. fingerprint: (d,) float32. k: of each action, or of all. actions: only
    these ("" stands for packets without an action); None for every one. within: a distance, or one per action,
    inclusive. epoch: a serial of the registry's zone; what was relied on to ask is at least as new. 0: not known.
    """

    domain: str
    network: str
    space: bytes
    fingerprint: Fingerprint
    k: int
    per: Literal["action", "all"] = "action"
    actions: tuple[str, ...] | None = None
    within: Mapping[str, float] | float | None = None
    epoch: int = 0

    def body(self) -> bytes:
        """The JSON of `POST /v1/nearest`."""
        document: dict[str, Any] = {
            "space": self.space.hex(),
            "fingerprint": base64.b64encode(self.fingerprint.astype("<f4", copy=False).tobytes()).decode(),
            "k": self.k,
            "per": self.per,
        }
        if self.actions is not None:
            document["actions"] = list(self.actions)
        if self.within is not None:
            document["within"] = dict(self.within) if isinstance(self.within, Mapping) else self.within
        return orjson.dumps(document)

    def most(self) -> int:
        """The most packets that an honest reply holds."""
        if self.per == "all":
            return self.k
        return self.k * (MAX_ARMS if self.actions is None else len(self.actions))


@dataclass(frozen=True, slots=True, eq=False)
class NearestReply:
    """What came back, checked.

    serial: of the coverage published when the network answered. tied: how many packets of the network lie at
    exactly the last returned distance, by action ("" where `per` is "all"). truncated: the network holds more
    of what was asked for than it could return.
    """

    serial: int
    packets: Batch | AtomBatch
    tied: Mapping[str, int]
    truncated: bool


@dataclass(frozen=True, slots=True, eq=False)
class CoverageState:
    """How far a network's coverage is published.

    published: serial, 0 for none. pending: there are deposits that the next coverage will take in.
    document: the signed coverage, None before the first.
    """

    published: int
    packets: int
    uncovered: int
    pending: bool
    document: Mapping[str, Any] | None


class NetworkClient:
    """Asks networks. `endpoint` is the base of one: `http://127.0.0.1:7301/psu-02`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def nearest(self, endpoint: str, request: NearestRequest, timeout_s: float) -> NearestReply:
        """The nearest packets. Raises Refused, TimedOut or Failed; nothing else."""
        limit = min(MAX_REPLY, 65536 + _PACKET_ROOM * request.most())
        headers = _headers(timeout_s, "application/cbor", "application/json")
        if request.epoch:
            headers[EPOCH] = str(request.epoch)
        try:
            async with asyncio.timeout(timeout_s):
                body = await self._call("POST", f"{endpoint}/v1/nearest", request.body(), headers, limit)
        except TimeoutError:
            raise _too_late(timeout_s) from None
        if len(body) <= _THREAD_ABOVE:
            return _reply(body, request)
        return await asyncio.to_thread(_reply, body, request)

    async def fetch(
        self, endpoint: str, path: str, accept: str, most: int, timeout_s: float, method: str = "GET"
    ) -> bytes:
        """What a network says at a path of its own, of the type `accept` and at most so many octets."""
        async with _deadline(timeout_s):
            return await self._call(method, f"{endpoint}{path}", None, _headers(timeout_s, accept), most)

    async def prepare(self, endpoint: str, request: NearestRequest, timeout_s: float) -> None:  # noqa: ARG002
        """Have a connection ready for a question that is about to come. Raises TimedOut or Failed."""
        async with _deadline(timeout_s):
            try:
                await self._connections.prepare(endpoint)
            except (OSError, ValueError) as error:
                raise Failed(f"{endpoint:.100}: {type(error).__name__}: {error}"[:300]) from None

    async def deposit(
        self, endpoint: str, packets: Sequence[Packet], timeout_s: float, atomic: bool = False
    ) -> DepositReport:
        """Deposit `packets`; what the report counts as accepted is on the network's disk."""
        data = b"".join([packet.to_cbor() for packet in packets])
        headers = _headers(timeout_s, "application/json", "application/cbor-seq")
        async with _deadline(timeout_s):
            url = f"{endpoint}/v1/packets" + ("?atomic=1" if atomic else "")
            document = _object(await self._call("POST", url, data, headers, MAX_DOCUMENT))
            try:
                return DepositReport.from_json(document)
            except (KeyError, TypeError, ValueError):
                raise Failed("the reply is no deposit report") from None

    async def coverage(self, endpoint: str, timeout_s: float) -> CoverageState:
        """How far the network's coverage is published."""
        async with _deadline(timeout_s):
            headers = _headers(timeout_s, "application/json")
            found = _object(await self._call("GET", f"{endpoint}/v1/coverage", None, headers, MAX_DOCUMENT))
            try:
                return CoverageState(
                    int(found["published"]),
                    int(found["packets"]),
                    int(found["uncovered"]),
                    found["pending"] is True,
                    found["coverage"],
                )
            except (KeyError, TypeError, ValueError):
                raise Failed("the reply is no coverage") from None

    async def close(self) -> None:
        """Let go of the connections that are kept."""
        await self._connections.close()

    async def moments(self, endpoint: str, timeout_s: float) -> dict[str, Any]:
        """The network's second-moment table, as it sent it: neither read nor verified."""
        async with _deadline(timeout_s):
            headers = _headers(timeout_s, "application/json")
            body = await self._call("GET", f"{endpoint}/v1/moments", None, headers, MAX_TABLE)
            return await asyncio.to_thread(_object, body)

    async def _call(self, method: str, url: str, data: bytes | None, headers: Mapping[str, str], limit: int) -> bytes:
        """The body of a 200 in the type asked for, at most `limit` bytes long."""
        try:
            response = await self._connections.request(method, url, headers, data, limit)
        except (BadReply, OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            what = str(error) if isinstance(error, BadReply) else f"{url:.100}: {type(error).__name__}: {error}"
            raise Failed(what[:300]) from None
        if response.encoding != "identity":
            raise Failed("the reply is compressed, which was not asked for")
        if response.status != 200:
            raise _problem(response.status, response.body)
        if response.content_type != headers["Accept"]:
            raise Failed(f"the reply is {response.content_type:.60}, wanted {headers['Accept']}")
        return response.body


def _headers(timeout_s: float, accept: str, content: str | None = None) -> dict[str, str]:
    headers = {
        "Accept": accept,
        "Accept-Encoding": "identity",
        "Kindred-Deadline-Ms": str(max(1, int(timeout_s * 1000))),
    }
    return headers if content is None else {**headers, "Content-Type": content}


@asynccontextmanager
async def _deadline(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise _too_late(timeout_s) from None


def _too_late(timeout_s: float) -> TimedOut:
    return TimedOut(f"no answer within {timeout_s * 1000:.0f} ms")


def _problem(status: int, body: bytes) -> NetworkFailure:
    try:
        found = jsontext.loads(body)
    except KindredError:
        found = None
    document = found if isinstance(found, dict) else {}
    detail = str(document.get("detail", ""))[:300]
    reason = f"HTTP {status}" + (f": {detail}" if detail else "")
    epoch = document.get("epoch")
    if status == Moved.status and type(epoch) is int and epoch > 0:
        return HandedOver(reason, epoch)
    return Refused(reason) if status in _REFUSALS else Failed(reason)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = jsontext.loads(body)
    except DocumentError as error:
        raise Failed(error.detail) from None
    if not isinstance(found, dict):
        raise Failed("the reply is no JSON object")
    return found


def _reply(body: bytes, request: NearestRequest) -> NearestReply:
    try:
        found = cbor2.loads(body, max_depth=4, allow_indefinite=False, allow_duplicate_keys=False)
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError) as error:
        raise Failed(f"the reply is no CBOR: {error}"[:300]) from None
    if not isinstance(found, dict) or set(found) != {"serial", "packets", "tied", "truncated"}:
        raise Failed("the reply is not {serial, packets, tied, truncated}")
    serial, packets, tied, truncated = (found[name] for name in ("serial", "packets", "tied", "truncated"))
    countable = type(serial) is int and 0 <= serial <= jsontext.MAX_SAFE_INTEGER
    if not (countable and type(truncated) is bool and type(packets) is list):
        raise Failed("serial, packets or truncated has the wrong type or size")
    _check_tied(tied, request)
    try:
        batch = Batch.of(packets, (request.domain, request.space[:8], request.network), len(request.fingerprint))
    except PacketError as error:
        raise Failed(error.detail) from None
    _check(batch, request)
    return NearestReply(serial, batch, tied, truncated)


def _check_tied(tied: object, request: NearestRequest) -> None:
    """That it counts, and only arms that were asked for."""
    if not isinstance(tied, dict):
        raise Failed("tied is no map of action and count")
    for action, n in tied.items():
        if not (type(action) is str and type(n) is int and 0 <= n <= MAX_TIED):
            raise Failed(f"tied is no map of action and count, which is at most {MAX_TIED}")
    arms = ("",) if request.per == "all" else request.actions
    strays = set() if arms is None else tied.keys() - set(arms)
    if strays:
        raise Failed(f"tied counts the action {min(strays)!r:.60}, which was not asked for")


def _check(batch: Batch, request: NearestRequest) -> None:
    """That everything was asked for: its action, no more than k of an arm, every node once."""
    arms = Counter(batch.actions)
    strays = set() if request.actions is None else arms.keys() - set(request.actions)
    if strays:
        raise Failed(f"a packet has the action {min(strays)!r:.60}, which was not asked for")
    most = max(arms.values(), default=0) if request.per == "action" else len(batch)
    if most > request.k:
        raise Failed(f"more than k={request.k} packets came back")
    if len(set(batch.nodes)) != len(batch):
        raise Failed("a node came back twice")
