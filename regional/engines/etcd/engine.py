"""Packets as keys of etcd: `etcd://HOST:PORT[,HOST:PORT...]/NAME`.

A packet stands at `kindred/NAME/v<version>/<bucket>/<node>` (node in hexadecimal), so that a bucket is a range of keys;
beside it, `kindred/NAME/at/<node>` says in which bucket, in the same transaction and hence of the same revision, by
which a writer sees that another was first.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from regional.engine import MAX_K, Change, Limits, Told, Watch
from regional.engines.address import EngineAddress
from regional.engines.backing import NEVER, PATIENCE_S, Placed, seq_of
from regional.engines.etcd.link import Ambiguous, Compacted, Document, EtcdLink, encoded, end_of
from registry.errors import Unavailable

MAX_OPERATIONS: Final = 126  # in one transaction; etcd's own limit is 128 unless told otherwise
ATOMIC: Final = MAX_OPERATIONS // 3  # packets: put, say where, and maybe take away from another bucket
_AT_ONCE: Final = 16  # transactions under way
_PAGE: Final = 1000  # keys
_PAUSE_S: Final = 0.1


class Place(NamedTuple):
    """Where a node is: bucket and seq, as of which revision; revision 0 for nowhere."""

    bucket: int
    seq: int
    revision: int


NOWHERE: Final = Place(0, NEVER, 0)


class EtcdBacking:
    """One prefix of keys."""

    def __init__(self, address: EngineAddress, patience_s: float = PATIENCE_S) -> None:
        address.only()
        self._link = EtcdLink(address, patience_s)
        self._where = address.where
        self._patience_s = patience_s
        self._root = f"kindred/{address.name}/".encode()
        self._prefix = self._root
        self._places: dict[bytes, Place] = {}  # as last seen: a put need not ask first
        self._slots = asyncio.Semaphore(_AT_ONCE)

    @property
    def where(self) -> str:
        """The servers and the prefix."""
        return self._where

    @property
    def limits(self) -> Limits:
        """A put of as many packets as one transaction takes is one transaction."""
        return Limits(k=MAX_K, packets=None, atomic=ATOMIC)

    async def open(self) -> None:
        """Connect."""
        await self._link.open()

    async def close(self) -> None:
        """Let go."""
        await self._link.close()

    def settle(self, version: int) -> None:
        """Keys begin with this version."""
        self._prefix = self._root + b"v%d/" % version

    async def put(self, packets: Sequence[Placed]) -> list[int]:
        """Store packets, each if its seq is above what is held."""
        groups = [packets[start : start + ATOMIC] for start in range(0, len(packets), ATOMIC)]
        results = await asyncio.gather(*(self._put(group) for group in groups))
        return [held for group in results for held in group]

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets."""
        return list(await asyncio.gather(*(self._forget(node, most) for node, most in nodes)))

    async def get(self, node: bytes) -> bytes | None:
        """The packet of a node, as a majority has it."""
        while True:
            place = await self._ask(node)
            if place is NOWHERE:
                return None
            found = await self._one(self._key(place.bucket, node))
            if found is not None:
                return found

    async def history(self, node: bytes) -> list[bytes]:
        """The current packet: etcd forgets older revisions when it is compacted, so none are offered."""
        data = await self.get(node)
        return [] if data is None else [data]

    async def bucket(self, number: int) -> list[bytes]:
        """All that is kept in a bucket, as of one revision."""
        return [_bytes(each.get("value", "")) async for _, page in self._pages(b"%04d/" % number) for each in page]

    async def watch(self, after: int | None = None) -> Watch:
        """All keys of this version, then each change; a position is a revision."""
        afresh = after is None
        position = after or 0
        if after is None:
            async for revision, page in self._pages(b""):
                position = revision
                yield Told([each for each in map(self._change, page) if each], complete=False, afresh=afresh)
                afresh = False
        request = {
            "create_request": {
                "key": encoded(self._prefix),
                "range_end": encoded(end_of(self._prefix)),
                "start_revision": str(position + 1),
            }
        }
        async with aclosing(self._link.follow(request)) as results:
            async for result in results:
                if result.get("compact_revision"):
                    async with aclosing(self.watch()) as anew:
                        async for told in anew:
                            yield told
                if result.get("canceled"):
                    raise Unavailable(f"the watch was ended: {result.get('cancel_reason', '')}"[:200])
                events = result.get("events", [])
                changes = [self._change(each["kv"], each.get("type") == "DELETE") for each in events]
                if events:
                    position = int(result["header"]["revision"])
                yield Told([each for each in changes if each], complete=True, afresh=afresh, position=position)
                afresh = False

    async def note(self, name: str) -> bytes | None:
        """A note is a key of its own."""
        return await self._one(self._root + b"note/" + name.encode())

    async def keep_note(self, name: str, value: bytes) -> None:
        """Whatever was noted before."""
        key = self._root + b"note/" + name.encode()
        await self._link.call("kv/put", {"key": encoded(key), "value": encoded(value)})

    async def claim_note(self, name: str, value: bytes) -> bytes:
        """Read the key, or put it where there is none; a cluster that is full takes no transaction with a put."""
        noted = await self.note(name)
        if noted is not None:
            return noted
        key = self._root + b"note/" + name.encode()
        await self._link.call(
            "kv/txn",
            {
                "compare": [_is_of(key, 0)],
                "success": [{"request_put": {"key": encoded(key), "value": encoded(value)}}],
            },
        )
        return await self._one(key) or b""

    # ---- transactions ------------------------------------------------------------------------------------------

    async def _put(self, group: Sequence[Placed]) -> list[int]:
        """Those of a group that are newer than what is held, all or none."""
        tried = False
        why = ""
        async with self._slots:
            try:
                async with asyncio.timeout(self._patience_s):
                    while True:
                        held = [self._places.get(each.node, NOWHERE) for each in group]
                        newer = [(each, at) for each, at in zip(group, held, strict=True) if each.seq > at.seq]
                        if tried:
                            held = [await self._unless_own(each, at) for each, at in zip(group, held, strict=True)]
                        if not newer:
                            return [each.seq for each in held]
                        try:
                            if await self._commit(newer):
                                return [each.seq for each in held]
                        except Ambiguous as error:
                            why, tried = str(error), True
                            await asyncio.sleep(_PAUSE_S)
                            await asyncio.gather(*(self._ask(each.node) for each in group))
            except TimeoutError:
                raise Unavailable(f"{self._where} does not answer: {why}") from None

    async def _unless_own(self, placed: Placed, held: Place) -> Place:
        """What is held, unless an attempt without an answer left it there."""
        if held.seq == placed.seq and await self._one(self._key(held.bucket, placed.node)) == placed.packet:
            return NOWHERE
        return held

    async def _commit(self, newer: Sequence[tuple[Placed, Place]]) -> bool:
        """Put packets if nobody has written their nodes since; else learn what was written."""
        compare, success = [], []
        placed = []
        for each, held in newer:
            bucket = each.bucket if each.bucket is not None else held.bucket
            at = self._at(each.node)
            compare.append(_is_of(at, held.revision))
            success.append(_put(self._key(bucket, each.node), each.packet))
            success.append(_put(at, b"%d" % bucket + b" %d" % each.seq))
            if held.revision and held.bucket != bucket:
                success.append({"request_delete_range": {"key": encoded(self._key(held.bucket, each.node))}})
            placed.append((each.node, bucket, each.seq))
        reply = await self._link.once("kv/txn", {"compare": compare, "success": success})
        if reply.get("succeeded"):
            revision = int(reply["header"]["revision"])
            self._places.update((node, Place(bucket, seq, revision)) for node, bucket, seq in placed)
            return True
        asked = [{"request_range": {"key": encoded(self._at(node))}} for node, _, _ in placed]
        found = await self._link.once("kv/txn", {"success": asked})
        for (node, _, _), response in zip(placed, found["responses"], strict=True):
            self._learn(node, response["response_range"].get("kvs", []))
        return False

    async def _forget(self, node: bytes, most: int) -> bool:
        tried = False
        while True:
            place = await self._ask(node)
            if place is NOWHERE or place.seq > most:
                return tried and place is NOWHERE
            at = self._at(node)
            request = {
                "compare": [_is_of(at, place.revision)],
                "success": [
                    {"request_delete_range": {"key": encoded(key)}} for key in (at, self._key(place.bucket, node))
                ],
            }
            try:
                if (await self._link.once("kv/txn", request)).get("succeeded"):
                    self._places.pop(node, None)
                    return True
            except Ambiguous:
                tried = True

    # ---- reading -----------------------------------------------------------------------------------------------

    async def _ask(self, node: bytes) -> Place:
        reply = await self._link.call("kv/range", {"key": encoded(self._at(node))})
        return self._learn(node, reply.get("kvs", []))

    def _learn(self, node: bytes, kvs: Sequence[Document]) -> Place:
        if not kvs:
            self._places.pop(node, None)
            return NOWHERE
        bucket, seq = (int(each) for each in _bytes(kvs[0]["value"]).split())
        place = self._places[node] = Place(bucket, seq, int(kvs[0]["mod_revision"]))
        return place

    async def _one(self, key: bytes) -> bytes | None:
        kvs = (await self._link.call("kv/range", {"key": encoded(key)})).get("kvs", [])
        return _bytes(kvs[0].get("value", "")) if kvs else None

    async def _pages(self, rest: bytes) -> AsyncGenerator[tuple[int, list[Document]], None]:
        """All keys that begin so, page by page, all as of one revision. Raises Unavailable rather than tell a part."""
        prefix = self._prefix + rest
        start, revision, told, count = prefix, 0, 0, None
        while count is None or told < count:
            request: dict[str, Any] = {
                "key": encoded(start), "range_end": encoded(end_of(prefix)), "limit": str(_PAGE),
                "revision": str(revision),
            }  # fmt: skip
            try:
                reply = await self._link.call("kv/range", request)
            except Compacted:
                raise Unavailable("the revision that was being read has been compacted; read again") from None
            page = reply.get("kvs", [])
            count = int(reply.get("count", 0)) + (0 if count is None else told)
            revision = revision or int(reply["header"]["revision"])
            told += len(page)
            if not page and told < count:
                raise Unavailable(f"{told} of {count} keys came")
            yield revision, page
            if page:
                start = _bytes(page[-1]["key"]) + b"\0"

    def _change(self, kv: Document, gone: bool = False) -> Change | None:
        """What a key says; None for what is no key of ours."""
        number, _, name = _bytes(kv["key"])[len(self._prefix) :].partition(b"/")
        try:
            bucket, node = int(number), bytes.fromhex(name.decode("ascii"))
        except ValueError:
            return None
        revision = int(kv["mod_revision"])
        known = self._places.get(node, NOWHERE)
        value = None if gone else _bytes(kv.get("value", ""))
        if value is None:
            if known.bucket == bucket and known.revision < revision:
                self._places.pop(node, None)
        elif known.revision < revision:
            self._places[node] = Place(bucket, seq_of(value), revision)
        return Change(bucket, node, value)

    def _key(self, bucket: int, node: bytes) -> bytes:
        return self._prefix + b"%04d/" % bucket + node.hex().encode()

    def _at(self, node: bytes) -> bytes:
        return self._root + b"at/" + node.hex().encode()


def _put(key: bytes, value: bytes) -> Document:
    return {"request_put": {"key": encoded(key), "value": encoded(value)}}


def _is_of(key: bytes, revision: int) -> Document:
    return {"key": encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
