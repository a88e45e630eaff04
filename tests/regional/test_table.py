"""Rows of files: every way that a file can be wrong, with line and column; what the `table:` section makes of it."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from regional.files.table import Row, part_of, read_rows, select
from registry.errors import DocumentError, SchemaError
from registry.likeness.schema import Schema

DAY = 86_400.0
FARM: dict[str, Any] = {
    "title": "Fields",
    "study": "observational",
    "release": "packets",
    "min_cohort": 1,
    "bandwidth_floor": 0.5,
    "actions": {"plough": "ploughed", "no-till": "not ploughed"},
    "features": {
        "clay": {"kind": "number", "label": "clay", "unit": "%", "scale": 10, "range": [0, 100]},
        "crop": {
            "kind": "category", "label": "crop", "values": ["wheat", "beet", "other"], "missing": {"as": "other"},
        },
        "wet": {"kind": "flag", "label": "wet", "missing": {"as": False}},
        "sown": {
            "kind": "cycle", "label": "day of sowing", "unit": "days", "period": 366, "scale": 30,
            "missing": {"apart": 4},
        },
    },
    "outcomes": {
        "yield": {"kind": "number", "label": "yield", "unit": "t/ha", "range": [0, 50], "horizon": "200d"},
        "lost": {"kind": "binary", "label": "lost within 100 days", "unit": "days", "horizon": "100d"},
        "stood": {"kind": "duration", "label": "stood", "unit": "days"},
    },
    "table": {
        "node": ["farm", "field"],
        "t0": {"column": "date", "date": "%Y-%m-%d"},
        "weight": "w",
        "action": {"column": ["how", "depth"], "map": {"p+30": "plough", "n+0": "no-till"}},
        "features": {
            "clay": {"column": "clay", "missing": [-9]},
            "crop": {
                "column": "crop", "map": {"W": "wheat"}, "words": {"beet": ["SUGAR BEET", "BEET"], "wheat": ["S"]},
                "otherwise": "other",
            },
            "wet": "wet",
            "sown": {"column": "date", "date": "%Y-%m-%d", "part": "day_of_year"},
        },
        "outcomes": {
            "yield": {"column": "yield", "unknown_above": 40},
            "lost": {"duration": "days", "event": "fell"},
            "stood": {"duration": "days", "event": "fell", "map": {"F": True, "S": False}},
        },
    },
}  # fmt: skip
FARM["table"]["outcomes"]["lost"]["map"] = {"F": True, "S": False}
SCHEMA = Schema.from_document(FARM, "farm")
HEADER = "farm,field,date,w,how,depth,clay,crop,wet,yield,days,fell\n"
GOOD = "a,1,1970-01-11,2.5,p,30,30,W,yes,7.5,120,S\n"


def write(tmp_path: Path, text: str | bytes, name: str = "f.csv") -> Path:
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def rows(tmp_path: Path, text: str | bytes, name: str = "f.csv", **how: Any) -> list[Row]:
    return list(read_rows(write(tmp_path, text, name), SCHEMA, **how))


def test_a_row_is_read_as_the_table_says(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, HEADER + GOOD)
    assert (row.line, row.node, row.t0, row.weight, row.action) == (2, b"a\x1f1", 10 * DAY, 2.5, "plough")
    assert row.situation == {"clay": 30.0, "crop": "wheat", "wet": True, "sown": 11}
    assert row.outcomes == {"yield": 7.5, "lost": 0.0, "stood": (120.0, False)}
    assert row.time == 210 * DAY
    assert row.columns["how"] == "p"


@pytest.mark.parametrize(
    ("column", "text", "name", "value"),
    [
        ("crop", "SUGAR BEET, early", "crop", "beet"),
        ("crop", "xBEET", "crop", "other"),
        ("crop", "rye", "crop", "other"),
        ("crop", "", "crop", None),
        ("wet", "0", "wet", False),
        ("wet", "", "wet", None),
    ],
)
def test_texts_become_values(tmp_path: Path, column: str, text: str, name: str, value: object) -> None:
    names = HEADER.strip().split(",")
    fields = dict(zip(names, GOOD.strip().split(","), strict=True)) | {column: f'"{text}"'}
    (row,) = rows(tmp_path, HEADER + ",".join(fields.values()) + "\n")
    assert row.situation[name] == value


@pytest.mark.parametrize(
    ("days", "fell", "lost", "stood"),
    [
        ("50", "F", 1.0, (50.0, True)),
        ("100", "F", 1.0, (100.0, True)),
        ("101", "F", 0.0, (101.0, True)),
        ("100", "S", 0.0, (100.0, False)),
        ("50", "S", None, (50.0, False)),
        ("", "S", None, None),
        ("50", "", None, None),
    ],
)
def test_one_who_left_before_the_horizon_is_unknown(
    tmp_path: Path, days: str, fell: str, lost: float | None, stood: object
) -> None:
    (row,) = rows(tmp_path, HEADER + GOOD.replace("120,S", f"{days},{fell}"))
    assert (row.outcomes["lost"], row.outcomes["stood"]) == (lost, stood)


def test_an_outcome_whose_horizon_has_not_passed_is_unknown(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, HEADER + GOOD, now=10 * DAY + 150 * DAY)
    assert row.outcomes == {"yield": None, "lost": 0.0, "stood": (120.0, False)}
    assert row.time == 130 * DAY
    (row,) = rows(tmp_path, HEADER + GOOD, now=10 * DAY + 99 * DAY)
    assert row.outcomes == {"yield": None, "lost": None, "stood": None}
    assert row.time == row.t0


def test_a_faulty_measurement_is_unknown(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, HEADER + GOOD.replace("7.5", "45"))
    assert row.outcomes["yield"] is None


@pytest.mark.parametrize(
    ("old", "new", "column", "says"),
    [
        ("1970-01-11", "11.1.70", "date", "'11.1.70' is no date of the form '%Y-%m-%d'"),
        ("2.5", "-1", "w", "at least 0"),
        ("2.5", "", "w", "at least 0"),
        ("2.5", "nan", "w", "'nan' is not a number"),
        ("p,30", "p,31", "how", "'p+31' is no action of the schema"),
        (",30,W", ",thirty,W", "clay", "clay: 'thirty' is not a number; what would be right: a number in %"),
        (",30,W", ",1_0,W", "clay", "not a number"),
        (",30,W", ",inf,W", "clay", "not a finite number"),
        (",30,W", ",300,W", "clay", "300.0 is out of range"),
        (",30,W", ",-9,W", "clay", "is missing; it must be given"),
        ("yes", "perhaps", "wet", "'perhaps' is not true or false"),
        ("7.5", "7,5", None, "13 fields, the header has 12"),
        ("7.5", "-1", "yield", "-1 is out of range; 0 to 50 t/ha"),
        ("120", "-120", "days", "-120 is no duration"),
        (",S", ",maybe", "fell", "'maybe' is neither yes nor no; known: F, S"),
        (",S", "", "fell", "11 fields, the header has 12"),
        ("a,1", ",1", "farm", "names the node"),
        ("a,1", '"a"x,1', None, "broken line"),
        ("a,1", '"a,1', None, "broken line"),
    ],
)
def test_a_broken_line_names_line_and_column(tmp_path: Path, old: str, new: str, column: str, says: str) -> None:
    text = HEADER + GOOD + GOOD.replace(old, new, 1)
    with pytest.raises(DocumentError) as caught:
        rows(tmp_path, text)
    assert caught.value.where["line"] == 3
    assert caught.value.where["column"] == column
    assert caught.value.detail.startswith("f.csv:3: " + (f"column {column!r}: " if column else ""))
    assert says in caught.value.detail
    errors: list[DocumentError] = []
    assert len(rows(tmp_path, text, on_error=errors.append)) == 1
    assert [error.detail for error in errors] == [caught.value.detail]


def test_rows_that_are_good_are_taken_where_errors_are_collected(tmp_path: Path) -> None:
    bad = [GOOD.replace(",30,W", f",{value},W") for value in ("x", "200")]
    latin = GOOD.replace("W", "Möhre").encode("latin-1")
    text = b"".join(part if isinstance(part, bytes) else part.encode() for part in
                    [HEADER, GOOD, bad[0], GOOD, latin, GOOD, bad[1], '"un,closed\n'])  # fmt: skip
    errors: list[DocumentError] = []
    assert [row.line for row in rows(tmp_path, text, on_error=errors.append)] == [2, 4, 6]
    assert [error.where["line"] for error in errors] == [3, 5, 7, 8]


def test_a_wrong_encoding_names_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"^f\.csv:3: column 'crop': byte 28 is not UTF-8; save the file"):
        rows(tmp_path, (HEADER + GOOD).encode() + GOOD.replace("W", "Kürbis").encode("latin-1"))
    with pytest.raises(DocumentError, match=r"^f\.csv:1: .* is not UTF-8"):
        rows(tmp_path, (HEADER + GOOD).encode("utf-16"), on_error=lambda _: None)


def test_the_mark_of_utf_8_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert len(rows(tmp_path, b"\xef\xbb\xbf" + (HEADER + GOOD).encode())) == 1


@pytest.mark.parametrize("on_error", [None, lambda _: None])
def test_missing_columns_are_all_named_even_without_rows(tmp_path: Path, on_error: Any) -> None:
    header = HEADER.replace("clay", "caly").replace("days,", "")
    with pytest.raises(DocumentError) as caught:
        rows(tmp_path, header, on_error=on_error)
    assert caught.value.detail.startswith("f.csv:1: column 'clay': the file lacks columns")
    assert "'clay' (did you mean 'caly'?)" in caught.value.detail
    assert "'days'" in caught.value.detail


def test_a_header_that_names_a_column_twice(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"f\.csv:1: column 'w': the header names this column twice"):
        rows(tmp_path, HEADER.replace("wet", "w") + GOOD)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(DocumentError, match=r"f\.csv: the file is empty|lacks columns"):
        rows(tmp_path, text)


def test_lines_within_quotes_and_blank_ones_count(tmp_path: Path) -> None:
    text = HEADER + "\n" + GOOD.replace("a,", '"a\nb",') + GOOD
    assert [(row.line, row.node) for row in rows(tmp_path, text)] == [(3, b"a\nb\x1f1"), (5, b"a\x1f1")]


def test_gzip_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    packed = gzip.compress((HEADER + GOOD * 500).encode())
    assert len(rows(tmp_path, packed, "f.csv.gz")) == 500
    for broken in (packed[:-20], b"not gzip at all", packed[:40] + b"\0\0\0\0" + packed[44:]):
        with pytest.raises(DocumentError, match=r"f\.csv\.gz: broken gzip"):
            rows(tmp_path, broken, "f.csv.gz")


def test_an_endless_line(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"f\.csv\.gz:2: longer than 1048576 bytes"):
        rows(tmp_path, gzip.compress(HEADER.encode() + b"x" * 2_000_000), "f.csv.gz")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"none\.csv: cannot be read: No such file"):
        list(read_rows(tmp_path / "none.csv", SCHEMA))


def test_a_schema_without_a_table(tmp_path: Path) -> None:
    bare = Schema.from_document({name: part for name, part in FARM.items() if name != "table"}, "bare")
    with pytest.raises(SchemaError, match="no `table:` section"):
        list(read_rows(write(tmp_path, HEADER), bare))


LINE = (
    '{"farm":"a","field":1,"date":"1970-01-11","w":2.5,"how":"p","depth":30,"clay":30,"crop":"W","wet":true,'
    '"yield":7.5,"days":120,"fell":"S"}\n'
)


def test_ndjson_is_read_like_csv(tmp_path: Path) -> None:
    (from_csv,) = rows(tmp_path, HEADER + GOOD)
    (from_json,) = rows(tmp_path, LINE, "f.ndjson")
    assert from_json._replace(line=2, columns={}) == from_csv._replace(columns={})
    (without,) = rows(tmp_path, LINE.replace(',"yield":7.5', "").replace('"crop":"W",', '"crop":null,'), "f.ndjson")
    assert (without.outcomes["yield"], without.situation["crop"]) == (None, None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"farm": "a",}', "JSON"),
        ('{"farm": "a", "farm": "b"}', "stands twice"),
        ('{"clay": ' + "9" * 30 + "}", "beyond 2^53-1"),
        ("[" * 2000 + "]" * 2000, "nested deeper"),
        ('{"clay": NaN}', "NaN"),
        ("[1]", "an object of plain values"),
        ('{"clay": [1]}', "an object of plain values"),
    ],
)
def test_a_broken_line_of_ndjson(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(DocumentError) as caught:
        rows(tmp_path, LINE + "\n" + line + "\n", "f.ndjson")
    assert caught.value.detail.startswith("f.ndjson:3: ")
    assert says in caught.value.detail


def test_further_rows_of_a_node_are_a_step_later(tmp_path: Path) -> None:
    table = {**FARM["table"], "node": "farm", "t0": {"constant": "1970-01-11", "step": "182d"}}
    schema = Schema.from_document({**FARM, "table": table}, "farm")
    file = write(tmp_path, HEADER + GOOD + GOOD.replace("a,", "b,") + GOOD + GOOD)
    assert [(row.node, row.t0 / DAY) for row in read_rows(file, schema)] == [
        (b"a", 10), (b"b", 10), (b"a", 192), (b"a", 374),
    ]  # fmt: skip


def test_names_of_nodes(tmp_path: Path) -> None:
    long = rows(tmp_path, HEADER + GOOD.replace("a,", "a" * 40 + ","))[0].node
    assert len(long) == 32
    table = {**FARM["table"], "node": "row"}
    schema = Schema.from_document({**FARM, "table": table}, "farm")
    file = write(tmp_path, HEADER + GOOD * 3)
    assert [row.node for row in read_rows(file, schema)] == [b"1", b"2", b"3"]


def test_select_picks_a_network_s_rows(tmp_path: Path) -> None:
    lines = [GOOD.replace("a,1", f"{farm},{field}").replace("yes", wet) for farm, field, wet in
             [("a", 1, "yes"), ("b", 1, ""), ("b", 2, "yes"), ("c", 2, "")]]  # fmt: skip
    everything = rows(tmp_path, HEADER + "".join(lines))

    def picked(where: dict[str, Any]) -> list[int]:
        return [row.line for row in select(everything, where)]

    assert picked({}) == [2, 3, 4, 5]
    assert picked({"farm": "b"}) == [3, 4]
    assert picked({"field": 2}) == [4, 5]
    assert picked({"farm": ["a", "c"]}) == [2, 5]
    assert picked({"wet": None}) == [3, 5]
    assert picked({"farm": "b", "wet": "yes"}) == [4]
    parts = [picked({"hash": ["farm", part, 3]}) for part in range(3)]
    assert sorted(line for part in parts for line in part) == [2, 3, 4, 5]
    assert all(part_of("b", 3) == part for part in range(3) if 3 in parts[part])


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"fram": "a"}, "no column 'fram' in the file; did you mean 'farm'?"),
        ({"hash": ["frm", 0, 2]}, "no column 'frm'"),
        ({"hash": ["farm", 2, 2]}, "is not [column, part from 0, number of parts]"),
        ({"hash": "farm"}, "is not [column, part from 0, number of parts]"),
    ],
)
def test_a_where_that_cannot_be_is_refused(tmp_path: Path, where: dict[str, Any], says: str) -> None:
    with pytest.raises(DocumentError) as caught:
        list(select(rows(tmp_path, HEADER + GOOD), where))
    assert says in caught.value.detail
