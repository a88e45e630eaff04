"""YAML as Kindred reads it: strict, with a line for every key, and errors that say what would be right.

The scalars are those of YAML 1.2's core schema (section 10.3.2), not of YAML 1.1: `No` and `1990-01-01` are
text. Keys are always text. Refused by name: duplicate keys, aliases (a small file could expand to gigabytes),
tags, several documents, nesting beyond `MAX_DEPTH`, integers beyond 53 bits.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from registry.errors import ConfigError, KindredError

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_SHOWN = 20  # problems of one file
MAX_SAFE_INTEGER = 2**53 - 1  # RFC 7493 section 2.2

Path_ = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

_CORE = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Composes nodes (which carry lines); resolves plain scalars by the core schema."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to start without any
    file = ""
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            _refuse(self.file, line, "an alias (*name) is not taken; write the value out")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            _refuse(self.file, line, f"nested deeper than {MAX_DEPTH}; flatten it")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_CORE + _tag, re.compile(f"^(?:{_pattern})$"), _first)


@dataclass(frozen=True, slots=True)
class YamlText:
    """One YAML document: `data` (dict, list, str, int, float, bool, None) and where each part of it stands."""

    file: str
    data: Any
    lines: Mapping[Path_, int]

    def line(self, path: Sequence[str | int]) -> int:
        """The line (from 1) of the key or item at `path`, or of the nearest one above that exists."""
        for end in range(len(path), -1, -1):
            if (found := self.lines.get(tuple(path[:end]))) is not None:
                return found
        return 1


def read_yaml(path: Path) -> YamlText:
    """Read one YAML file in UTF-8. Raises ConfigError naming file and line."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", file=str(path)) from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes", file=str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(str(path), data[: error.start].count(b"\n") + 1, "not UTF-8; save the file as UTF-8")
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str) -> YamlText:
    """Parse one YAML document; `file` is its name in errors. Raises ConfigError naming file and line."""
    try:
        loader = _Loader(text)
        loader.file = file
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        hint = "; put quotes around a text that holds ': ' or starts with a sign" if mark else ""
        _refuse(file, mark.line + 1 if mark else 1, f"broken YAML: {what}{hint}")
    except yaml.YAMLError as error:
        _refuse(file, 1, f"broken YAML: {' '.join(str(error).split())}")
    if root is None:
        _refuse(file, 1, "the file is empty")
    lines: dict[Path_, int] = {(): 1}
    return YamlText(file, _build(root, (), lines, file), lines)


def _build(node: yaml.Node, path: Path_, lines: dict[Path_, int], file: str) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == _CORE + "map":
        return _mapping(node, path, lines, file)
    if isinstance(node, yaml.SequenceNode) and node.tag == _CORE + "seq":
        for index, item in enumerate(node.value):
            lines[*path, index] = item.start_mark.line + 1
        return [_build(item, (*path, index), lines, file) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, file)
    _refuse(file, node.start_mark.line + 1, f"the tag {node.tag!r:.60} is not taken; write plain YAML")


def _mapping(node: yaml.MappingNode, path: Path_, lines: dict[Path_, int], file: str) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            _refuse(file, line, "a key must be plain text")
        if key.value in members:
            first = lines[*path, key.value]
            _refuse(file, line, f"the key {key.value!r:.80} stands twice (also on line {first}); keep one")
        lines[*path, key.value] = line
        members[key.value] = _build(value, (*path, key.value), lines, file)
    return members


def _scalar(node: yaml.ScalarNode, file: str) -> str | int | float | bool | None:
    text: str = node.value
    match node.tag.removeprefix(_CORE):
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" if len(text) <= 17 and abs(int(text)) <= MAX_SAFE_INTEGER:
            return int(text)
        case "float" if abs(float(text)) != float("inf"):
            return float(text)
        case "int" | "float":
            _refuse(file, node.start_mark.line + 1, f"the number {text[:40]} is too large; put quotes around a text")
    _refuse(file, node.start_mark.line + 1, f"the tag {node.tag!r:.60} is not taken; write plain YAML")


def _refuse(file: str, line: int, what: str) -> NoReturn:
    raise ConfigError(f"{file}:{line}: {what}", file=file, line=line)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'weight'?` where a known word is near, else the list of what is known."""
    words = list(known)
    if close := difflib.get_close_matches(word, words, n=1, cutoff=0.6):
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(words[:20]) + (", ..." if len(words) > 20 else "")
    return f"known: {shown}" if words else "none is known here"


def validate(
    model: type[M],
    text: YamlText,
    error: type[KindredError],
    check: Callable[[M], Iterable[tuple[Path_, str]]] | None = None,
) -> M:
    """`text.data` as a `model`, or `error` with every problem: `file:line: path.to.key: what; what would be right`.

    check: what else is wrong with a model that is well-formed in itself, as (path, what).
    """
    try:
        valid = model.model_validate(text.data)
        found = [(path, what) for path, what in check(valid)] if check else []
    except ValidationError as invalid:
        found = [_problem(model, text.data, each) for each in invalid.errors(include_url=False)]
    if not found:
        return valid
    problems = [
        {"line": text.line(path), "path": ".".join(map(str, path)) or "(the whole file)", "what": what}
        for path, what in found
    ]
    more = [f"... and {len(problems) - MAX_SHOWN} more"] if len(problems) > MAX_SHOWN else []
    raise error(
        "\n".join(
            [f"{text.file}:{each['line']}: {each['path']}: {each['what']}" for each in problems[:MAX_SHOWN]] + more
        ),
        file=text.file,
        line=problems[0]["line"],
        path=problems[0]["path"],
        problems=problems[:MAX_SHOWN],
    )


def _problem(model: type[BaseModel], data: Any, found: ErrorDetails) -> tuple[Path_, str]:
    path = _path_in(data, found["loc"], found["type"] == "missing")
    match found["type"]:
        case "missing":
            what = "is missing; add it"
        case "extra_forbidden":
            what = f"unknown key; {nearest(str(path[-1]), _known_keys(model, found['loc'][:-1]))}"
        case "value_error" | "assertion_error":
            what = found["msg"].removeprefix("Value error, ")
        case "union_tag_not_found":
            what = f"{found['ctx']['discriminator']} is missing; add it"
        case "union_tag_invalid":
            what = f"{found['ctx']['tag']!r:.60} is not known; one of {found['ctx']['expected_tags']}"
        case _:
            message = found["msg"].removeprefix("Input ")
            what = f"{message}, found {found['input']!r:.80}"
    return path, what


def _path_in(data: Any, loc: Sequence[str | int], missing: bool) -> Path_:
    """`loc` (its last key may be missing) without what pydantic adds for a member of a union, no key of the file."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        if isinstance(data, Mapping):
            if part not in data and not (missing and index == len(loc) - 1):
                continue
            data = data.get(str(part))
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _known_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that the model at `loc` below `model` takes."""
    kind: Any = model
    for part in loc:
        kind = _step(_bare(kind), part)
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [field.alias or name for name, field in kind.model_fields.items()]
    return []


def _step(kind: Any, part: str | int) -> Any:
    origin = typing.get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        return fields.get(str(part))
    if origin in (typing.Union, types.UnionType):
        return next((member for member in typing.get_args(kind) if _is_member(_bare(member), str(part))), None)
    return typing.get_args(kind)[-1] if origin is not None else None


def _bare(kind: Any) -> Any:
    """Without Annotated and without None."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return _bare(members[0]) if len(members) == 1 else kind
    return kind


def _is_member(member: Any, part: str) -> bool:
    if not (isinstance(member, type) and issubclass(member, BaseModel)):
        return False
    tags = [
        tag
        for field in member.model_fields.values()
        if typing.get_origin(field.annotation) is Literal
        for tag in typing.get_args(field.annotation)
    ]
    return part == member.__name__ or part in tags
