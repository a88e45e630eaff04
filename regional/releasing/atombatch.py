"""The atoms of one network as columns: what its pages bring, in the form in which packets come
(regional/packets/batch.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regional.cohort import Figures
from regional.releasing.page import Page


@dataclass(frozen=True, slots=True, eq=False)
class AtomFound:
    """One atom as a neighbour. node: its id, which stands where a packet's node does. weight: of all in it."""

    node: bytes
    action: str | None
    size: int
    weight: float
    outcomes: Mapping[str, Figures]


@dataclass(frozen=True, slots=True, eq=False)
class AtomBatch:
    """n atoms. fingerprints: (n, d) float64, their centres; nodes, actions ("" for none): n each; sizes: (n,)."""

    fingerprints: npt.NDArray[np.float64]
    nodes: Sequence[bytes]
    actions: Sequence[str]
    sizes: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    figures: Sequence[Mapping[str, Figures]]

    @classmethod
    def of(cls, pages: Sequence[Page], d: int) -> AtomBatch:
        """All atoms of the pages."""
        return cls(
            fingerprints=np.concatenate([np.zeros((0, d)), *(page.centres for page in pages)]),
            nodes=[node for page in pages for node in page.nodes],
            actions=[action for page in pages for action in page.actions],
            sizes=np.concatenate([np.zeros(0, dtype=np.int64), *(page.sizes for page in pages)]),
            weights=np.concatenate([np.zeros(0), *(page.weights for page in pages)]),
            figures=[figures for page in pages for figures in page.figures],
        )

    def __len__(self) -> int:
        return len(self.nodes)

    def rows(self, rows: Sequence[int]) -> AtomBatch:
        """Those at these places."""
        return AtomBatch(
            self.fingerprints[rows],
            [self.nodes[row] for row in rows],
            [self.actions[row] for row in rows],
            self.sizes[rows],
            self.weights[rows],
            [self.figures[row] for row in rows],
        )

    def read(self, rows: Sequence[int]) -> None:
        """Everything was read with the page."""

    def details(self, row: int) -> AtomFound:
        """What one of them has beside its columns."""
        return self.packet(row)

    def packet(self, row: int) -> AtomFound:
        """One of them, whole."""
        size, weight = int(self.sizes[row]), float(self.weights[row])
        return AtomFound(self.nodes[row], self.actions[row] or None, size, weight, self.figures[row])
