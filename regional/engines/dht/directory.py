"""Reading a network's directory in a DHT: heads, pages, packets; each verified, and none missed in silence."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Final

from regional.engines.backing import NEVER, seq_of
from regional.engines.dht.item import Head, Key, Ref, gone_up_to, head_salt, packet_salt, read_page
from regional.engines.dht.node import TRIES, DhtNode
from registry.errors import Corrupt, Unavailable

MAX_AGE_S: Final = 7200.0  # of a head; as long as nodes keep what its owner does not put again


class Directory:
    """What the holder of the key `public` has written under `name`, as `node` finds it."""

    def __init__(self, node: DhtNode, public: bytes, name: str) -> None:
        self._node = node
        self._public = public
        self._name = name

    async def head(self, bucket: int) -> Head | None:
        """The newest head of a bucket; None where no node has one. Raises Unavailable, Corrupt."""
        value = await self._node.get_mutable(self._public, head_salt(self._name, bucket))
        head = None if value is None else Head.from_value(value)
        if head is not None and head.bucket != bucket:
            raise Corrupt(f"{self._name}: what stands for the head of bucket {bucket} is one of bucket {head.bucket}")
        return head

    async def leaves(self, top: Ref, known: MutableMapping[bytes, list[Ref]]) -> list[Ref]:
        """All leaves under a page. known: the pages of pages, by name, that were read before; read ones are added."""
        level = [top]
        while level[0].level:
            unread = [each for each in level if each.name not in known]
            for each, refs in zip(unread, await asyncio.gather(*map(self._refs, unread)), strict=True):
                known[each.name] = refs
            level = [inner for each in level for inner in known[each.name]]
        return level

    async def keys(self, leaf: Ref) -> list[Key]:
        """What a leaf holds: all that is counted. Raises Unavailable, Corrupt."""
        return [each for each in await self._page(leaf) if isinstance(each, Key)]

    async def packet(self, key: Key) -> bytes | None:
        """The packet of a node, of this seq at least; None where it has been removed since. Raises Unavailable."""

        def enough(value: bytes) -> bool:
            return seq_of(value) >= key.seq or gone_up_to(value) >= key.seq

        newest = NEVER
        for _ in range(TRIES):
            value = await self._node.get_mutable(self._public, packet_salt(self._name, key.node), enough)
            if value is not None and enough(value):
                return value if gone_up_to(value) == NEVER else None
            newest = max(newest, NEVER if value is None else seq_of(value))
        found = "there is none" if newest == NEVER else f"only seq {newest} is there"
        raise Unavailable(f"{self._name}: a packet of seq {key.seq} stands in the directory, and {found}")

    async def current(self, node: bytes) -> bytes | None:
        """The newest packet of a node, whatever the directory says; None where there is none."""
        value = await self._node.get_mutable(self._public, packet_salt(self._name, node))
        return None if value is None or seq_of(value) == NEVER else value

    async def _refs(self, ref: Ref) -> list[Ref]:
        return [each for each in await self._page(ref) if isinstance(each, Ref)]

    async def _page(self, ref: Ref) -> list[Key] | list[Ref]:
        value = await self._node.get_immutable(ref.name)
        if value is None:
            raise Unavailable(f"{self._name}: a page of its directory, which counts {ref.n} packets, is missing")
        return read_page(value, ref)
