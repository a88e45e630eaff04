"""Rows of a file (CSV or NDJSON, also gzipped) as situations, actions and outcomes, by a schema's `table:` section.

Every error names file, line and column. The reader is strict: RFC 4180 quoting, UTF-8, as many fields in each row
as in the header.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from regional.files.rowreader import OutcomeValue, RowReader
from registry.errors import DocumentError, SchemaError
from registry.jsontext import loads
from registry.likeness.schema import Schema
from registry.yamltext import nearest

MAX_LINE = 1024 * 1024

OnError = Callable[[DocumentError], None]


class Row(NamedTuple):
    """One row of a file.

    line: where it starts, from 1. node: at most 32 bytes. t0: when the action was decided; time: when the newest
    outcome was known (seconds since the epoch). outcomes: number, (duration, event), or None = unknown yet.
    columns: the row's texts as they stand in the file.
    """

    line: int
    node: bytes
    t0: float
    time: float
    situation: dict[str, object]
    action: str | None
    outcomes: dict[str, OutcomeValue]
    weight: float
    columns: Mapping[str, str]


def read_rows(
    path: Path, schema: Schema, *, now: float | None = None, on_error: OnError | None = None
) -> Iterator[Row]:
    """The rows of a file, in order.

    now: outcomes whose horizon passes later than this are unknown. on_error: takes the error of each row that cannot
    be used, which is then left out; without it the first one is raised. Raises DocumentError, also for what spoils
    the whole file (missing columns, broken gzip), and SchemaError where the schema has no table.
    """
    if schema.table is None:
        raise SchemaError(f"{schema.title}: the schema has no `table:` section; add it to read files")
    reader = RowReader(schema, now)
    with closing(_records(path, schema.table.columns, on_error)) as records:
        for number, (line, columns) in enumerate(records, start=1):
            try:
                yield Row(line, *reader.read(number, columns), columns)
            except DocumentError as error:
                problem = _at(path, line, error.where.get("column"), error.detail)
                if on_error is None:
                    raise problem from None
                on_error(problem)


def select(rows: Iterable[Row], where: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of one network in a file that several share.

    where: column -> the text it must hold (a number or flag as it is written in the file), a list of such, or None
    for empty; all must hold. `hash: [column, i, n]`: SHA-256 of the column's text falls into part i of n.
    Raises DocumentError for a column that the file does not have.
    """
    tests = [_test(column, wanted) for column, wanted in where.items()]
    return (row for row in rows if all(test(row.columns) for test in tests))


def part_of(text: str, n: int) -> int:
    """Which of n parts a text falls into: SHA-256's first 8 bytes, big-endian, modulo n."""
    return _hashed(text) % n


@lru_cache(maxsize=65_536)  # the networks that share a file ask for each text again
def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _test(column: str, wanted: Any) -> Callable[[Mapping[str, str]], bool]:
    if column == "hash":
        match wanted:
            case [str(name), int(part), int(n)] if 0 <= part < n:
                return lambda columns: part_of(_column(columns, name), n) == part
        raise DocumentError(f"where: hash: {wanted!r:.80} is not [column, part from 0, number of parts]", path="hash")
    texts = {_text(each) for each in (wanted if isinstance(wanted, list | tuple) else [wanted])}
    return lambda columns: _column(columns, column) in texts


def _column(columns: Mapping[str, str], name: str) -> str:
    try:
        return columns[name]
    except KeyError:
        raise DocumentError(f"where: no column {name!r:.80} in the file; {nearest(name, columns)}", path=name) from None


def _text(value: Any) -> str:
    """A JSON or YAML scalar as it is written."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def _records(
    path: Path, wanted: list[str], on_error: OnError | None
) -> Generator[tuple[int, Mapping[str, str]], None, None]:
    """(line, columns) of each record."""
    try:
        with _open(path) as stream:
            if ".ndjson" in path.suffixes or ".jsonl" in path.suffixes:
                yield from _json_records(path, _lines(path, stream, False, on_error), wanted, on_error)
            else:
                yield from _csv_records(path, _lines(path, stream, True, on_error), wanted, on_error)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DocumentError(f"{path.name}: broken gzip: {error}; fetch the file again", file=path.name) from None
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}", file=path.name) from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _lines(path: Path, stream: BinaryIO, tabular: bool, on_error: OnError | None) -> Iterator[str]:
    """Decoded lines. A line that is not UTF-8 comes as an empty one, so that the count of lines stays right."""
    header: list[str] = []
    for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE + 1), b""), start=1):
        if len(line) > MAX_LINE:
            raise _at(path, number, None, f"longer than {MAX_LINE} bytes; is this a table?")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            column = _spoilt(line, header) if tabular else None
            problem = _at(path, number, column, f"byte {error.start} is not UTF-8; save the file as UTF-8")
            if on_error is None or number == 1:
                raise problem from None
            on_error(problem)
            text = "\n"
        if number == 1 and tabular:
            header = next(csv.reader([text]), [])
        yield text


def _spoilt(line: bytes, header: list[str]) -> str | None:
    """The column of the first field that is not UTF-8."""
    fields = next(csv.reader([line.decode("utf-8", "replace")]), [])
    return next((name for name, text in zip(header, fields, strict=False) if "\ufffd" in text), None)


def _csv_records(
    path: Path, lines: Iterator[str], wanted: list[str], on_error: OnError | None
) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.reader(lines, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            _report(_at(path, line, None, f"broken line: {error}; quote texts that hold commas or quotes"), on_error)
            continue
        if fields is None:
            break
        if not header:
            header = fields
            _check_header(path, line, header, wanted)
        elif len(fields) == len(header):
            yield line, dict(zip(header, fields, strict=True))
        elif fields:
            what = f"{len(fields)} fields, the header has {len(header)}"
            column = header[len(fields)] if len(fields) < len(header) else None
            _report(_at(path, line, column, f"broken line: {what}"), on_error)
    if not header:
        raise DocumentError(f"{path.name}: the file is empty; its first line names the columns", file=path.name)


def _check_header(path: Path, line: int, header: list[str], wanted: list[str]) -> None:
    for name in header:
        if header.count(name) > 1:
            raise _at(path, line, name, "the header names this column twice")
    if missing := [name for name in wanted if name not in header]:
        hints = "; ".join(f"{name!r} ({nearest(name, header)})" for name in missing)
        raise _at(path, line, missing[0], f"the file lacks columns that the schema's table names: {hints}")


def _json_records(
    path: Path, lines: Iterator[str], wanted: list[str], on_error: OnError | None
) -> Iterator[tuple[int, Mapping[str, str]]]:
    absent = dict.fromkeys(wanted, "")  # a member that is left out is a missing value
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            record = loads(text)
        except DocumentError as error:
            _report(_at(path, line, None, error.detail), on_error)
            continue
        if isinstance(record, dict) and not any(isinstance(value, dict | list) for value in record.values()):
            yield line, absent | {name: _text(value) for name, value in record.items()}
        else:
            _report(_at(path, line, None, "an object of plain values is wanted"), on_error)


def _report(problem: DocumentError, on_error: OnError | None) -> None:
    if on_error is None:
        raise problem
    on_error(problem)


def _at(path: Path, line: int, column: object, what: str) -> DocumentError:
    place = f"{path.name}:{line}" + (f": column {column!r}" if column is not None else "")
    return DocumentError(f"{place}: {what}", file=path.name, line=line, column=column)
