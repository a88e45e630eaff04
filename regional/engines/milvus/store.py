"""The Milvus collection of a network: made whole before it gets its name, checked before it is used."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from pymilvus import AsyncMilvusClient

from regional.engines.milvus.link import Ambiguous, Gone, MilvusLink
from regional.engines.milvus.rows import INDEX, PLACE, check_schema, note_filter, note_of, note_rows, schema_of
from regional.engines.mirror import Home
from regional.partition import Partition
from registry.errors import ConfigError, Corrupt

_LOAD_S: Final = 60.0  # how long the server may take to load a collection
_PARTS: Final = 100  # rows of a note


class MilvusStore:
    """What `alias` stands for: the packets of `home`, of dimension d."""

    def __init__(self, link: MilvusLink, alias: str, home: Home, d: int) -> None:
        self._link = link
        self._alias = alias
        self._home = home
        self._d = d

    async def open(self, name: str, partition: Partition) -> Partition:
        """Make it, as `name` and with this partition, where there is none; have it loaded; how it is parted.

        Raises ConfigError where it is another network's, or its index is not exact, and Corrupt.
        """
        try:
            description = await self._link.call("describe_collection", self._alias)
        except Gone:
            description = await self._make(name, partition)
        check_schema(description, self._d, self._link.where)
        await self._load(str(description["collection_name"]))
        at = await self._link.now()
        owner = await noted(self._link, self._alias, at, "network")
        parted = await noted(self._link, self._alias, at, "partition")
        if owner is None or parted is None:
            raise Corrupt(f"{self._link.where}: the notes of the collection are missing; restore it from a backup")
        if owner != self._home.network.encode():
            raise ConfigError(
                f"{self._link.where} keeps the packets of {owner.decode(errors='replace')!r:.70}, not of "
                f"{self._home.network!r}; choose another name in its address"
            )
        try:
            return Partition.from_bytes(parted, self._d)
        except Corrupt as error:
            raise Corrupt(f"{self._link.where}: {error.detail}") from None

    async def _make(self, name: str, partition: Partition) -> Any:
        """With its notes, and only then by its name; of several who do, one succeeds."""
        await self._link.call("create_collection", name, schema=schema_of(self._d), consistency_level="Eventually")
        index = AsyncMilvusClient.prepare_index_params()
        index.add_index(PLACE, **INDEX)
        await self._link.call("create_index", name, index, timeout=_LOAD_S)
        notes = note_rows("network", self._home.network.encode(), self._d)
        await self._link.call("upsert", name, notes + note_rows("partition", partition.to_bytes(), self._d))
        with suppress(Ambiguous):
            await self._link.once("create_alias", name, self._alias)
        description = await self._link.call("describe_collection", self._alias)
        if description["collection_name"] != name:
            await self._link.call("drop_collection", name)
        return description

    async def _load(self, name: str) -> None:
        """See that the index is the exact one, and that the server has the collection in memory."""
        index = await self._link.call("describe_index", name, PLACE)
        if {key: (index or {}).get(key) for key in INDEX} != INDEX:
            raise ConfigError(f"{self._link.where}: the index of {name} is not {INDEX}; it would not be exact")
        state = await self._link.call("get_load_state", name)
        if getattr(state.get("state"), "name", "") != "Loaded":
            await self._link.call("load_collection", name, timeout=_LOAD_S, patience_s=_LOAD_S)


async def noted(link: MilvusLink, collection: str, at: int, name: str) -> bytes | None:
    """A note of a collection, as of `at` or later."""
    return note_of(await link.query(collection, at, note_filter(name), ["node", "seq", "packet"], _PARTS))
