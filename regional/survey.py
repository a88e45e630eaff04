"""Surveys: regions over what a network holds at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regional.clustering import regions_of
from regional.covering import Covering
from regional.engine import Census
from regional.releasing.publication import Release
from registry.geometry.region import Region
from registry.publishing.coverage import Coverage


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """Regions over the packets held at one moment. uncovered: nodes that lie in none that counts their action.

    release: where atoms are released, the epoch that the regions are of; packets are then the persons in its atoms.
    wish: how many wishes for a new coverage it fulfils.
    """

    regions: tuple[Region, ...]
    packets: int
    uncovered: frozenset[bytes]
    release: Release | None = None
    wish: int = 0

    @property
    def told(self) -> int:
        """How many uncovered packets the coverage speaks of."""
        return len(self.uncovered) if self.release is None else self.release.told


def only(census: Census, chosen: npt.NDArray[np.bool_]) -> Census:
    """The packets chosen, (n,)."""
    rows = np.flatnonzero(chosen)
    listed = rows.tolist()
    actions, nodes = census.actions, census.nodes
    return Census(census.fingerprints[rows], [actions[row] for row in listed], [nodes[row] for row in listed])


def survey_of(census: Census, min_cohort: int, last: Coverage | None) -> Survey:
    """Regions over the census; those of `last`, from before a restart, where they still fit."""
    points, actions = census.fingerprints, census.actions
    if last is not None and last.packets == len(points):
        survey = _over(last.regions, census)
        if len(survey.uncovered) == last.uncovered:
            return survey
    regions, _ = regions_of(points, actions, min_cohort)
    return _over(regions, census)


def _over(regions: Sequence[Region], census: Census) -> Survey:
    covered = Covering(regions).covers(census.fingerprints, census.actions).tolist()
    lonely = frozenset(node for node, inside in zip(census.nodes, covered, strict=True) if not inside)
    return Survey(tuple(regions), len(census.nodes), lonely)
