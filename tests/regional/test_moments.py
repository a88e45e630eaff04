"""Second-moment tables: the sums themselves, that they merge, what they refuse to tell, and what is no table."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional.cohort import Cohort
from regional.moments import FOLDS, Moments, discloses, fold_of
from regional.momenttable import MomentTable, Nodes, nodes_of
from registry.errors import DocumentError, SignatureError
from registry.keys import SigningKey, verify_document
from registry.likeness.schema import Schema
from tests.registry.sample_schemas import FIELD, field

KEY = SigningKey(bytes(32))
HOME = ("fields", "north")
LEVELS = {"kind": "ordinal", "label": "harm", "levels": ["none", "some", "all"]}


def schema() -> Schema:
    return field(adjust_for=["clay", "slope", "irrigated"], outcomes={**FIELD["outcomes"], "harm": LEVELS})


def made(n: int, seed: int = 1, known: float = 0.9) -> Nodes:
    """n nodes with every outcome, of some not known."""
    rng = np.random.default_rng(seed)
    points = rng.normal(5, 2, (n, schema().dimension)).astype(np.float32)
    points[:, schema().adjusted[2]] = rng.random(n) < 0.4
    outcomes: list[dict[str, Any]] = [
        {
            "yield": float(rng.normal(9, 2)) if rng.random() < known else None,
            "lost": float(rng.random() < 0.3),
            "stood": (3.0, True),
            "harm": float(rng.integers(0, 3)),
        }
        for _ in range(n)
    ]
    ids = [f"{seed}-{i}".encode() for i in range(n)]
    return nodes_of(points, ids, rng.choice(["plough", "no-till", ""], n).tolist(), rng.uniform(0.5, 2, n), outcomes)


def part(nodes: Nodes, rows: list[int]) -> Nodes:
    def each(column: Any) -> Any:
        return [column[row] for row in rows]

    return Nodes(nodes.points[rows], each(nodes.action), nodes.weight[rows], each(nodes.outcomes), each(nodes.fold))


def test_moments_are_those_of_the_columns() -> None:
    rng = np.random.default_rng(2)
    x, y, w = rng.normal(3, 1, (300, 4)), rng.normal(8, 2, 300), rng.uniform(0.5, 2, 300)
    moments = Moments.of(x, y, w)
    together = np.cov(np.column_stack([x, y]).T, aweights=w, ddof=0)
    assert moments.means == pytest.approx(np.average(x, axis=0, weights=w), rel=1e-12)
    assert moments.mean == pytest.approx(np.average(y, weights=w), rel=1e-12)
    assert moments.covariance == pytest.approx(together[:4, :4], rel=1e-10)
    assert moments.with_y == pytest.approx(together[:4, 4], rel=1e-10, abs=1e-12)
    assert moments.variance == pytest.approx(together[4, 4], rel=1e-10)
    assert moments.n_eff == pytest.approx(w.sum() ** 2 / (w @ w))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_tables_of_parts_add_up_to_the_table_of_the_whole_in_any_order(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = made(150)
    owner = rng.integers(0, parts, 150)
    tables = [MomentTable.of(schema(), part(nodes, np.flatnonzero(owner == each).tolist()), 1) for each in range(parts)]
    whole = MomentTable.of(schema(), nodes, 1)
    shuffled = MomentTable.of(schema(), part(nodes, rng.permutation(150).tolist()), 1)
    assert {key for table in tables for key in table.cells} == set(whole.cells)
    for key, moments in whole.cells.items():
        merged = Moments.merged([table.cells[key] for table in tables if key in table.cells])
        assert (merged.n, merged.events) == (moments.n, moments.events)
        assert merged.sums == pytest.approx(moments.sums, rel=1e-14)
        assert shuffled.cells[key].sums.tolist() == moments.sums.tolist()


def test_a_table_counts_who_can_be_counted() -> None:
    nodes = made(200)
    nodes.weight[:3] = [0.0, np.inf, -1.0]
    table = MomentTable.of(schema(), nodes, 1)
    known = [i for i in range(3, 200) if nodes.outcomes[i]["yield"] is not None]
    assert sum(m.n for (_, name, _), m in table.cells.items() if name == "yield") == len(known)
    assert not any(name == "stood" for _, name, _ in table.cells)
    assert {fold for _, _, fold in table.cells} == set(range(FOLDS))
    assert table.columns == ("clay", "slope", "irrigated")


def test_folds_are_of_equal_size_and_know_nothing_of_networks() -> None:
    counts = np.bincount([fold_of(str(i).encode()) for i in range(20_000)], minlength=FOLDS)
    assert len(counts) == FOLDS
    assert (abs(counts / 20_000 - 1 / FOLDS) < 0.015).all()


@pytest.mark.parametrize(
    ("x", "y", "tells"),
    [
        (np.arange(10.0)[:, None], np.arange(10.0), True),  # fewer than 11 in all
        (np.arange(40.0)[:, None], np.arange(40.0), False),
        (np.arange(40.0)[:, None], np.arange(40.0) < 3, True),  # three had the event: sums of x y are theirs alone
        (np.arange(40.0)[:, None], np.arange(40.0) < 38, True),
        (np.arange(40.0)[:, None], np.zeros(40), False),  # nobody had it
        ((np.arange(40) == 7).astype(float)[:, None], np.arange(40.0), True),  # one is flagged
        ((np.arange(60) < 30).astype(float)[:, None], np.arange(60) > 25, True),  # four are flagged and had it
        ((np.arange(60) < 30).astype(float)[:, None], np.arange(60) % 2, False),
    ],
)
def test_sums_that_would_tell_of_few_are_known(x: Any, y: Any, tells: bool) -> None:
    assert discloses(x, y.astype(float), 11) is tells


def test_cells_of_few_are_refused_and_outcomes_that_differ_by_few() -> None:
    nodes = made(3000, known=1.0)
    table = MomentTable.of(schema(), nodes, 11)
    assert table.refused == 0
    # Of five nodes with one action in one fold nobody knows whether the crop was lost.
    rows = [i for i in range(3000) if nodes.action[i] == "plough" and nodes.fold[i] == 0]
    for row in rows[:5]:
        nodes.outcomes[row]["lost"] = None  # type: ignore[index]
    again = MomentTable.of(schema(), nodes, 11)
    assert again.refused >= 1
    assert ("plough", "lost", 0) not in again.cells or ("plough", "harm", 0) not in again.cells
    few = MomentTable.of(schema(), made(60), 11)
    assert few.refused > 0
    assert all(m.n >= 11 for m in few.cells.values())


def test_the_document_comes_back_and_bears_the_signature() -> None:
    table = MomentTable.of(schema(), made(300), 1, serial=7)
    document = table.document(HOME, schema().space.hex(), 5.0, KEY)
    verify_document(document, KEY.public)
    back = MomentTable.from_document(document, HOME, schema())
    assert (back.serial, back.refused, back.columns) == (7, 0, table.columns)
    assert {key: m.sums.tolist() for key, m in back.cells.items()} == {
        k: m.sums.tolist() for k, m in table.cells.items()
    }
    forged = copy.deepcopy(document)
    forged["cells"][0]["sums"][2] += 1.0
    with pytest.raises(SignatureError):
        verify_document(forged, KEY.public)


def _set(*path: Any, value: Any) -> Any:
    def change(document: Any) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("network", value="south"),
        _set("space", value="0" * 64),
        _set("columns", value=["clay"]),
        _set("cells", 0, "sums", 0, value=-1.0),
        _set("cells", 0, "sums", 1, value=1e9),  # more than every weight squared
        _set("cells", 0, "sums", 3, value=-1.0),
        _set("cells", 0, "sums", value=[1.0, 1.0]),
        _set("cells", 0, "sums", 2, value=float("nan")),
        _set("cells", 0, "events", value=10**6),
        _set("cells", 0, "n", value=0),
        _set("cells", 0, "fold", value=FOLDS),
        _set("more", value=1),
        lambda document: document["cells"].append(document["cells"][0]),
    ],
)
def test_what_is_no_table_is_refused(change: Any) -> None:
    document = MomentTable.of(schema(), made(300), 1).document(HOME, schema().space.hex(), 5.0, KEY)
    change(document)
    with pytest.raises(DocumentError, match="moments"):
        MomentTable.from_document(document, HOME, schema())
    with pytest.raises(DocumentError, match="moments"):
        MomentTable.from_document([], HOME, schema())


def test_cells_that_the_schema_does_not_know_are_left_out() -> None:
    document = MomentTable.of(schema(), made(300), 1).document(HOME, schema().space.hex(), 5.0, KEY)
    document["cells"][0]["action"] = "burnt"
    document["cells"][1]["outcome"] = "colour"
    back = MomentTable.from_document(document, HOME, schema())
    assert len(back.cells) == len(document["cells"]) - 2


def test_of_atoms_all_of_the_outcome_is_known_and_of_the_columns_what_the_centres_tell() -> None:
    rng = np.random.default_rng(5)
    x, y, w = rng.normal(3, 1, (60, 2)), (rng.random(60) < 0.4).astype(float), rng.uniform(0.5, 2, 60)
    ones = [Cohort.of([pair]).figures() for pair in zip(y.tolist(), w.tolist(), strict=True)]
    one, each = Moments.of_atoms(x, [figures for figures in ones if figures]), Moments.of(x, y, w)
    assert (one.n, one.events) == (each.n, each.events)
    assert one.sums == pytest.approx(each.sums, rel=1e-12)
    groups = np.arange(60) // 12
    figures = [
        Cohort.of(zip(y[groups == g].tolist(), w[groups == g].tolist(), strict=True)).figures() for g in range(5)
    ]
    centres = np.array([np.average(x[groups == g], axis=0, weights=w[groups == g]) for g in range(5)])
    atoms = Moments.of_atoms(centres, [each for each in figures if each])
    assert (atoms.n, atoms.events) == (60, each.events)
    for name in ("weight", "n_eff", "mean", "variance"):
        assert getattr(atoms, name) == pytest.approx(getattr(each, name), rel=1e-9)
    assert atoms.means == pytest.approx(each.means, rel=1e-12)
    assert (np.diag(atoms.covariance) < np.diag(each.covariance)).all()
