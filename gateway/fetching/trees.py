"""The trees that one walk goes through: that of the registry it starts at, and those of registries that run parts.

A record that leads into another registry's tree was published by a registry that granted it. Here the other side is
held to it: it must name that registry as its parent, and mean the same by a fingerprint. So nobody can be drawn into a
tree that he does not belong to, and no tree can be entered by two ways.
"""

from __future__ import annotations

from gateway.fetching.age import Ages
from gateway.fetching.cache import Kept
from gateway.fetching.resolver import Resolver, Tree
from gateway.planning.cell import Cell
from gateway.planning.path import Path, address_of, apex_of
from registry.clock import Clock
from registry.errors import LookupFailed
from registry.geometry.cell import Naming


class Trees:
    """Each is taken once, where the walk first comes to it, and used throughout.

    ages: of the versions that were read of each. stale: whether one of them was beyond its time. entered: how many
    were.
    """

    def __init__(self, resolver: Resolver, start: Tree, clock: Clock) -> None:
        self._resolver = resolver
        self._clock = clock
        self._trees: dict[str | None, Tree] = {None: start}
        self.ages = Ages()
        self._take(start, start.serial, start.newest)
        self.stale = start.stale

    @property
    def entered(self) -> int:
        """Trees of other registries that the walk has come to."""
        return len(self._trees) - 1

    def document(self) -> list[dict[str, object]]:
        """Each with its zone's serial, and who answers for it; the one that the walk starts at first."""
        return [
            {
                "apex": tree.naming.apex,
                "generation": tree.apex.generation,
                "serial": tree.serial,
                "servers": list(self._resolver.servers(tree.naming)),
            }
            for tree in self._trees.values()
        ]

    def cached(self, path: Path) -> Kept[Cell] | None:
        """The cell where it and its tree are at hand. Raises LookupFailed as `cell`, and for a failure remembered."""
        apex = apex_of(path)
        tree = self._trees.get(apex)
        if tree is None:
            above = self._trees[apex_of(path[:-1])]
            tree = self._resolver.cached_tree(above.naming.beyond(str(apex)))
            if tree is None:
                return None
            self._enter(above, tree)
        return self._resolver.cached_cell(tree, address_of(path))

    async def cell(self, path: Path, timeout_s: float) -> Kept[Cell]:
        """The cell at `path`; the cell with the record that leads there was opened before. Raises LookupFailed."""
        apex = apex_of(path)
        tree = self._trees.get(apex)
        if tree is None:
            above = self._trees[apex_of(path[:-1])]
            tree = await self._resolver.tree(above.naming.beyond(str(apex)), timeout_s)
            self._enter(above, tree)
        return await self._resolver.cell(tree, address_of(path), timeout_s)

    def _enter(self, above: Tree, tree: Tree) -> None:
        check(above, tree)
        self._trees[tree.naming.apex] = tree
        self._take(tree, tree.serial, tree.newest)
        self.stale = self.stale or tree.stale

    def read(self, path: Path, cell: Kept[Cell]) -> None:
        """The walk relies on this cell."""
        self._take(self._trees[apex_of(path)], cell.serial, cell.newest)

    def _take(self, tree: Tree, serial: int, newest: int) -> None:
        """newest 0: nothing read by now exceeds the present; a server may have caught up since it told its serial."""
        self.ages.take(tree.naming.apex, serial, newest or int(self._clock.now()), tree.apex.keep_s)

    def naming(self, path: Path) -> Naming | None:
        """The names of the registry that the cell is of; None where its tree could not be entered."""
        tree = self._trees.get(apex_of(path))
        return None if tree is None else tree.naming

    def name(self, path: Path) -> str:
        """The DNS name of a cell; of one in a tree that could not be entered, the apex."""
        tree = self._trees.get(apex_of(path))
        return str(path[-1]) if tree is None else tree.naming.cell(tree.apex.generation, address_of(path))


def check(above: Tree, tree: Tree) -> None:
    """Raise LookupFailed unless `tree` is a part of `above`: each names the other, and the space is one."""
    here, there = above.apex, tree.apex
    what = f"{tree.naming.apex}, to which {above.naming.apex} points,"
    if there.parent != above.naming.apex:
        named = "no parent" if there.parent is None else f"{there.parent} as its parent"
        raise LookupFailed(f"{what} is not its subtree: it names {named:.120}", rcode="REFERRAL")
    if (there.space, there.dimension) != (here.space, here.dimension):
        raise LookupFailed(f"{what} is of another space: {there.space.hex()}", rcode="REFERRAL")
    if not there.generation:
        raise LookupFailed(f"{what} has published no generation", rcode="REFERRAL")
