"""Answers the walk's wants from the cache or by DNS questions to the registry."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import cast

from gateway.fetching.cache import Cache, Kept
from gateway.planning.cell import Cell
from registry.geometry.cell import Address, Naming
from registry.resolving.lookup import Looked, Lookups, NetworkInfo
from registry.zones.texts import ApexText

# A lookup that many wait for goes on beyond the deadline of the first of them.
LOOKUP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Tree:
    """The generation that a question walks: taken once from the apex, used throughout. stale: beyond its time."""

    naming: Naming
    apex: ApexText
    serial: int
    stale: bool = False
    newest: int = 0


class Resolver:
    """Cells, apexes and networks of the registry, each at most once per time to live."""

    def __init__(self, lookups: Lookups, cache: Cache) -> None:
        self._lookups = lookups
        self._cache = cache
        self._least: dict[str, int] = {}  # by apex: what is older has been expired

    @property
    def cache(self) -> Cache:
        return self._cache

    async def tree(self, naming: Naming, timeout_s: float) -> Tree:
        """The domain's current generation. Raises LookupFailed."""

        async def look_up() -> Looked[object]:
            return cast(Looked[object], await self._lookups.apex(naming, LOOKUP_TIMEOUT_S))

        kept = await self._cache.get(("apex", naming.apex), look_up, timeout_s)
        return Tree(naming, cast(ApexText, kept.value), kept.serial, kept.stale, kept.newest)

    def cached_tree(self, naming: Naming) -> Tree | None:
        """The same if it is in the cache. Raises LookupFailed for a failure still remembered."""
        kept = self._cache.peek(("apex", naming.apex))
        return None if kept is None else Tree(naming, cast(ApexText, kept.value), kept.serial, kept.stale)

    def cached_cell(self, tree: Tree, address: Address) -> Kept[Cell] | None:
        """The cell if it is in the cache. Raises LookupFailed for a failure still remembered."""
        return cast("Kept[Cell] | None", self._cache.peek(self._cell_key(tree, address)))

    async def cell(self, tree: Tree, address: Address, timeout_s: float) -> Kept[Cell]:
        """The records of one cell. Raises LookupFailed."""

        async def look_up() -> Looked[object]:
            apex = tree.apex
            looked = await self._lookups.cell(
                tree.naming, apex.generation, address, apex.actions, apex.dimension, LOOKUP_TIMEOUT_S
            )
            return Looked(Cell(looked.value, apex.dimension), looked.ttl_s, looked.serial, looked.stale, looked.newest)

        return cast(Kept[Cell], await self._cache.get(self._cell_key(tree, address), look_up, timeout_s))

    async def network(self, naming: Naming, name: str, timeout_s: float) -> Kept[NetworkInfo]:
        """A network's endpoints, key and serial. Raises LookupFailed."""

        async def look_up() -> Looked[object]:
            return cast(Looked[object], await self._lookups.network(naming, name, LOOKUP_TIMEOUT_S))

        key = ("network", naming.network(name))
        return cast(Kept[NetworkInfo], await self._cache.get(key, look_up, timeout_s))

    def servers(self, naming: Naming) -> tuple[str, ...]:
        """Who answers for the domain's zone, host and port."""
        return self._lookups.servers(naming)

    def forget_tree(self, naming: Naming) -> None:
        """The generation at hand turned out to be gone: ask for the apex anew next time."""
        self._cache.drop(("apex", naming.apex))

    def expire(self, naming: Naming, serial: int) -> None:
        """What is kept of this registry and is not known to be as new as `serial` is to be asked for anew.

        Once for each serial: through others' caches what comes then may be no newer. Where nobody answers, it serves
        on as stale.
        """
        if self._least.get(naming.apex, 0) < serial:
            self._least[naming.apex] = serial
            self._cache.expire(lambda key, kept: _is_of(naming, key) and kept.serial < serial)

    @staticmethod
    def _cell_key(tree: Tree, address: Address) -> Hashable:
        return ("cell", tree.naming.apex, tree.apex.generation, address)


def _is_of(naming: Naming, key: Hashable) -> bool:
    """Whether what is kept under this key is of the registry with these names."""
    match key:
        case ("network", str(name)):
            return name.endswith(f".net.{naming.apex}")
        case (_, apex, *_):
            return apex == naming.apex
    return False
