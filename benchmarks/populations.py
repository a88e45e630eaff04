"""Whom the planner's figures are about: made and real packets, and how they are shared out over networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from benchmarks.generated import MADE, Fingerprints
from benchmarks.report import ROOT
from regional.files.table import part_of, read_rows
from registry.likeness.fingerprint import encode
from registry.likeness.schema import Schema

Labels = npt.NDArray[np.intp]

SPECIALTIES = 64
FILES = {
    "icu": "rhc_icu",
    "smoking": "nhefs",
    "rice": "rice_farms_indonesia",
    "drives": "hdfail_backblaze",
    "crash": "nass_cds_crash",
    "strikes": "aircraft_wildlife_strikes",
}


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """fingerprints (n, d), of which `asked` (m, d) are held out as questions; actions; texts per column; outcomes.

    Every row of a file is a packet here, also where one node has several.
    """

    name: str
    fingerprints: Fingerprints
    questions: Fingerprints
    actions: npt.NDArray[np.object_]
    columns: dict[str, npt.NDArray[np.object_]]
    outcomes: dict[str, npt.NDArray[np.float64]]
    asked: dict[str, npt.NDArray[np.float64]]


def made(name: str, n: int, questions: int) -> Population:
    """A made population and questions from the same source."""
    points = MADE[name](n + questions, np.random.default_rng(1))
    nothing = np.full(n, "", dtype=object)
    return Population(name, points[:n], points[n:], nothing, {}, {}, {})


def real(name: str, questions: int, together: str | None = None) -> Population:
    """A data set of examples/, a random part of its rows held out as questions.

    together: a column; rows with the same text in it are held out together.
    """
    schema = Schema.from_yaml(ROOT / "examples" / "domains" / f"{name}.yaml")
    rows = list(read_rows(ROOT / "examples" / "data" / f"{FILES[name]}.csv.gz", schema))
    points = np.array([encode(schema, row.situation) for row in rows], dtype=np.float32)
    outcomes = {outcome: np.array([_number(row.outcomes.get(outcome)) for row in rows]) for outcome in schema.outcomes}
    group = np.arange(len(rows)) if together is None else by_column([row.columns[together] for row in rows])
    turn = np.random.default_rng(3).permutation(int(group.max()) + 1)[group]
    out = turn <= np.sort(turn)[questions - 1]
    columns = {
        column: np.array([row.columns[column] for row in rows], dtype=object)[~out] for column in rows[0].columns
    }
    return Population(
        name,
        points[~out],
        points[out],
        np.array([row.action or "" for row in rows], dtype=object)[~out],
        columns,
        {outcome: values[~out] for outcome, values in outcomes.items()},
        {outcome: values[out] for outcome, values in outcomes.items()},
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def by_kind(points: Fingerprints, networks: int, strays: float = 0.0, within: Labels | None = None) -> Labels:
    """(n,): the network of each packet, where networks specialise.

    64 specialties (k-means cells; inside each class of `within`, where given), each shared by networks / 64 at
    random; a share of `strays` is anywhere. With fewer than 64 networks each has several specialties.
    """
    random = np.random.default_rng(2)
    classes = np.zeros(len(points), dtype=np.intp) if within is None else within
    kinds = np.zeros(len(points), dtype=np.intp)
    sizes = np.bincount(classes)
    shares = np.maximum(1, np.round(SPECIALTIES * sizes / sizes.sum())).astype(int)
    shares[sizes.argmax()] += SPECIALTIES - shares.sum()
    first = 0
    for each, share in enumerate(shares.tolist()):
        rows = np.flatnonzero(classes == each)
        sample = points[random.choice(rows, min(len(rows), 10_000), replace=False)]
        parts = min(share, len(np.unique(sample, axis=0)))
        kinds[rows] = first + KMeans(parts, n_init=1, max_iter=15, random_state=0).fit(sample).predict(points[rows])
        first += parts
    if networks >= SPECIALTIES:
        share = networks // SPECIALTIES
        owner = kinds * share + random.integers(0, share, len(points))
    else:
        owner = kinds % networks
    stray = random.random(len(points)) < strays
    owner[stray] = random.integers(0, networks, int(stray.sum()))
    return owner.astype(np.intp)


def by_column(texts: Sequence[str]) -> Labels:
    """(n,): one network per text."""
    return np.unique(np.array(texts, dtype=str), return_inverse=True)[1].astype(np.intp)


def by_hash(texts: Sequence[str], networks: int) -> Labels:
    """(n,): cut by nothing that matters."""
    return np.array([part_of(text, networks) for text in texts], dtype=np.intp)
