"""The roll of a domain: every network that covers any of it, found by walking the whole tree."""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np

from gateway.fetching.resolver import Resolver
from gateway.fetching.trees import Trees
from gateway.planning.resolution import Walk
from registry.clock import Clock
from registry.geometry.cell import Naming

AT_ONCE: Final = 256  # cells
BESIDE: Final = 32  # the same where only so many networks are wanted: beside questions, which are not to wait for it
MAX_CELLS: Final = 4096  # that are opened where only so many networks are wanted


async def roll(
    resolver: Resolver, naming: Naming, clock: Clock, timeout_s: float, most: int | None = None
) -> list[str] | None:
    """The networks by name; those met in the trees of other registries by DNS name. timeout_s: of each lookup.

    None where there are more than `most`, or where that takes too many cells to tell. Raises LookupFailed.
    """
    start = await resolver.tree(naming, timeout_s)
    trees = Trees(resolver, start, clock)
    walk = Walk(np.zeros(start.apex.dimension), ("",), naming=naming)
    everywhere = np.array([np.inf])
    opened = 0
    while start.apex.generation and (wanted := walk.wanted(everywhere)):
        # The deepest first: networks stand in the leaves.
        chosen = sorted(wanted, key=len, reverse=True)[: AT_ONCE if most is None else BESIDE]
        opened += len(chosen)
        if most is not None and (len(walk.networks) > most or opened > MAX_CELLS):
            return None
        cells = await asyncio.gather(*(trees.cell(path, timeout_s) for path in chosen))
        walk.opened([(path, kept.value) for path, kept in zip(chosen, cells, strict=True)])
    return walk.networks if most is None or len(walk.networks) <= most else None
