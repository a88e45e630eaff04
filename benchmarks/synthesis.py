"""What a synthesis costs, and that it does not depend on who keeps which nodes.

Figure 6: 10,000 packets from 16 networks, CPU time of the whole document, least of several. Figure 1: the greatest
relative difference between any two figures of the answers from 16 networks and from one network of all their atoms,
for packets and for atoms of 12.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.crowd import Crowd
from benchmarks.report import Figure, Report
from gateway.planning.neighbours import Neighbours
from gateway.statistics.standpoint import Standpoint
from gateway.statistics.synthesis import synthesise
from gateway.statistics.whole import Whole
from regional.cohort import Cohort, Figures
from regional.momenttable import MomentTable, nodes_of
from regional.releasing.atombatch import AtomBatch

ISSUE = 6
PACKETS: Final = 10_000
NETWORKS: Final = 16
K: Final = 50
EACH: Final = 12  # persons in an atom
QUESTIONS: Final = 12
Float64s = npt.NDArray[np.float64]


def run(report: Report) -> None:
    """Both figures."""
    with threadpool_limits(limits=1):
        _cost(report)
        for name in ("icu", "smoking", "rice", "crash", "strikes", "drives"):
            crowd = Crowd.real(name)
            for rule in ("packets", "aggregates"):
                worst = _partitions(crowd, rule)
                what = f"{name}, {rule}: {NETWORKS} networks beside one pooled, greatest relative difference"
                report.add(Figure(ISSUE, "1", what, worst, "", bar="<= 1e-9", holds=worst <= 1e-9))


def _cost(report: Report) -> None:
    crowd = Crowd.real("icu")
    rows = np.random.default_rng(1).integers(0, len(crowd.points), PACKETS)
    many = crowd.part(rows.astype(np.intp))
    _, neighbours = many.nearest(many.points[0], PACKETS, crowd.schema.actions)
    networks = tuple(f"net-{i}" for i in np.random.default_rng(2).integers(0, NETWORKS, PACKETS).tolist())
    neighbours = replace(neighbours, network=networks)
    whole = crowd.whole()
    for names in (("died_30d",), ("survival",), ("died_30d", "survival")):
        outcomes = {name: crowd.schema.outcomes[name] for name in names}
        for way, standpoint in (("plain", None), ("adjusted", Standpoint(many.points[0], whole))):
            if names == ("survival",) and way == "adjusted":
                continue
            least = min(_once(neighbours, outcomes, crowd, standpoint) for _ in range(15))
            what = f"synthesis of {PACKETS:,} packets of {NETWORKS} networks, {' and '.join(names)}, {way}: CPU"
            report.add(Figure(ISSUE, "6", what, least * 1000, "ms", bar="<= 20 ms", holds=least <= 0.020))


def _once(neighbours: Neighbours, outcomes: Mapping[str, Any], crowd: Crowd, standpoint: Standpoint | None) -> float:
    start = time.process_time()
    synthesise(neighbours, outcomes, crowd.schema.actions, "observational", 1.0, standpoint=standpoint)
    return time.process_time() - start


def _partitions(crowd: Crowd, rule: str) -> float:
    atoms = _atoms(crowd) if rule == "aggregates" else None
    random = np.random.default_rng(3)
    held = len(crowd.points) if atoms is None else len(atoms)
    owner = random.integers(0, NETWORKS, held)
    tables = {f"net-{i:02}": _table(crowd, atoms, np.flatnonzero(owner == i)) for i in range(NETWORKS)}
    many = Whole.of(tables, crowd.schema.adjusted, {})
    one = Whole.of({"all": _table(crowd, atoms, np.arange(held))}, crowd.schema.adjusted, {})
    worst = 0.0
    for query in crowd.points[random.choice(len(crowd.points), QUESTIONS, replace=False)]:
        near = _nearest(crowd, atoms, query)
        apart = replace(near, network=tuple(f"net-{owner[int(node)]:02}" for node in near.node))
        answers = [
            synthesise(each, crowd.schema.outcomes, crowd.schema.actions, "observational", 0.5,
                       standpoint=Standpoint(query, whole))
            for each, whole in ((near, one), (apart, many))
        ]  # fmt: skip
        worst = max([worst, *_differences(*answers)])
    return worst


def _table(crowd: Crowd, atoms: AtomBatch | None, rows: npt.NDArray[np.intp]) -> MomentTable:
    if atoms is not None:
        return MomentTable.of_atoms(crowd.schema, atoms.rows(rows.tolist()), 1)
    part = crowd.part(rows)
    ids = [str(i).encode() for i in rows.tolist()]
    return MomentTable.of(
        crowd.schema, nodes_of(part.points, ids, part.action.tolist(), np.ones(len(rows)), part.outcomes), 1
    )


def _atoms(crowd: Crowd) -> AtomBatch:
    """Twelve of one action that are near each other along the first axes."""
    order = np.lexsort((*crowd.points.T[::-1], crowd.action))
    groups = [part for a in crowd.schema.actions for part in _twelves(order[crowd.action[order] == a])]
    names = [name for name, outcome in crowd.schema.outcomes.items() if outcome.kind != "duration"]
    return AtomBatch(
        fingerprints=np.array([crowd.points[part].mean(axis=0) for part in groups]),
        nodes=[str(i).encode() for i in range(len(groups))],
        actions=[str(crowd.action[part[0]]) for part in groups],
        sizes=np.array([len(part) for part in groups]),
        weights=np.array([float(len(part)) for part in groups]),
        figures=[
            {name: figures for name in names if (figures := _figures(crowd, part, name)) is not None} for part in groups
        ],
    )


def _twelves(rows: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    return [part for part in np.array_split(rows, max(1, len(rows) // EACH)) if len(part)]


def _figures(crowd: Crowd, part: npt.NDArray[np.intp], name: str) -> Figures | None:
    values = [crowd.outcomes[i].get(name) for i in part.tolist()]
    return Cohort.of((value, 1.0) for value in values if isinstance(value, float)).figures()


def _nearest(crowd: Crowd, atoms: AtomBatch | None, query: Float64s) -> Neighbours:
    if atoms is None:
        return crowd.nearest(query, K, crowd.schema.actions)[1]
    distance = np.sqrt(((atoms.fingerprints - query) ** 2).sum(axis=1))
    rows = np.concatenate(
        [
            mine[np.argsort(distance[mine], kind="stable")[:8]]
            for action in crowd.schema.actions
            for mine in [np.array([i for i, each in enumerate(atoms.actions) if each == action], dtype=np.intp)]
        ]
    ).tolist()
    part = atoms.rows(rows)
    return Neighbours(
        distance[rows], part.fingerprints, tuple(part.actions), ("all",) * len(rows), tuple(part.nodes),
        part.weights, tuple(part.figures), part.sizes, K, "action", {},
    )  # fmt: skip


def _differences(a: Any, b: Any) -> Iterator[float]:
    """Relative differences of all numbers of two documents, but for who gave them."""
    if isinstance(a, dict):
        for name in a:
            if name not in ("networks", "missing"):
                yield from _differences(a[name], b[name])
    elif isinstance(a, list | tuple):
        for one, other in zip(a, b, strict=True):
            yield from _differences(one, other)
    elif isinstance(a, float) and isinstance(b, float):
        yield abs(a - b) / max(abs(a), abs(b), 1e-300)
    elif a != b:
        yield float("inf")
