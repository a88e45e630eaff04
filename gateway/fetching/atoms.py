"""Asking a network of persons: its atoms are at hand, whatever is asked; the nearest are found here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from gateway.fetching.deadline import Deadline
from gateway.fetching.fanout import Fanout
from gateway.fetching.pages import Pages
from gateway.fetching.resolver import Resolver
from gateway.planning.merge import RADIUS_SLACK
from regional.client import NearestReply, NearestRequest, NetworkFailure
from regional.reader import Reader
from regional.releasing.atombatch import AtomBatch
from regional.releasing.lifetable import Parent
from registry.errors import LookupFailed
from registry.geometry.cell import Naming
from registry.geometry.region import squared_distances
from registry.likeness.schema import Schema
from registry.resolving.lookup import NetworkInfo

_UNKNOWN = LookupFailed("it was not met when the pages were gathered")


class AtomFanout(Fanout):
    """The networks of one domain that releases aggregates. No question leaves: only pages are fetched, all of them."""

    def __init__(
        self, resolver: Resolver, reader: Reader, naming: Naming, schema: Schema, deadline: Deadline, pages: Pages
    ) -> None:
        super().__init__(resolver, reader, naming, schema, deadline)
        self._pages = pages
        self._infos: dict[str, NetworkInfo | LookupFailed] = {}
        self._atoms: dict[str, AtomBatch | NetworkFailure] = {}
        self.parents: dict[str, Sequence[Parent]] = {}

    async def gather(self, networks: Sequence[str]) -> None:
        """Have the pages of all these networks at hand, and only of these; what goes wrong, the asking will tell."""
        await asyncio.gather(*(self._have(network) for network in networks))

    async def prepare(self, network: str, request: NearestRequest) -> None:
        """Nothing: what can be had is at hand."""

    async def _have(self, network: str) -> None:
        naming, name = self._naming.owner(network)
        try:
            info = self._infos[network] = await super()._info(network)
            for endpoint in info.endpoints:
                self._check_release(endpoint)
            left = self._deadline.remaining()
            edition = await self._pages.edition(naming.network(name), info, naming.domain, self._schema, left)
            self._atoms[network] = edition.atoms
            self.parents[network] = edition.parents
        except LookupFailed as error:
            self._infos[network] = error
        except NetworkFailure as error:
            self._atoms[network] = error

    async def _info(self, network: str) -> NetworkInfo:
        found = self._infos.get(network, _UNKNOWN)
        if isinstance(found, LookupFailed):
            raise LookupFailed(found.detail, **found.where)
        return found

    async def _reply(self, network: str, info: NetworkInfo, request: NearestRequest) -> NearestReply:
        atoms = self._atoms[network]
        if isinstance(atoms, NetworkFailure):
            raise type(atoms)(atoms.detail)
        return NearestReply(info.text.serial, nearest(atoms, request), {}, truncated=False)


def nearest(atoms: AtomBatch, request: NearestRequest) -> AtomBatch:
    """The nearest atoms of each action, or of all, that have `request.k` persons together, and all equally far.

    Only those within the distances that the request allows.
    """
    distance2 = squared_distances(atoms.fingerprints, request.fingerprint.astype(np.float64))
    wanted = set(atoms.actions) if request.actions is None else set(request.actions)
    chosen = np.array([action in wanted for action in atoms.actions], dtype=np.bool_)
    if request.per == "all":
        arms = {"": np.flatnonzero(chosen)}
    else:
        actions = np.array(atoms.actions, dtype=np.object_)
        arms = {action: np.flatnonzero(actions == action) for action in sorted(wanted)}
    found: list[int] = []
    for action, rows in arms.items():
        within = request.within.get(action) if isinstance(request.within, Mapping) else request.within
        limit = np.inf if within is None else (within * (1.0 + RADIUS_SLACK)) ** 2
        near = rows[distance2[rows] <= limit]
        order = near[np.argsort(distance2[near], kind="stable")]
        reached = atoms.sizes[order].cumsum().searchsorted(request.k)
        last = distance2[order[min(int(reached), len(order) - 1)]] if len(order) else 0.0
        found += order[distance2[order] <= last].tolist()
    return atoms.rows(found)
