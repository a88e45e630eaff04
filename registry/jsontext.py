"""JSON as Kindred reads and writes it: strict on the way in, canonical where it is signed or hashed.

Reading refuses by name what parsers are known to disagree on (RFC 8259 section 4 and 6, RFC 7493):
duplicate keys, integers beyond 53 bits, NaN and Infinity, nesting beyond `MAX_DEPTH`.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NoReturn

import rfc8785

from registry.errors import DocumentError, TooLarge

MAX_DEPTH = 64
MAX_SAFE_INTEGER = 2**53 - 1  # RFC 7493 section 2.2


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise DocumentError(f"JSON: the key {name!r:.80} stands twice in one object; keep one", key=name[:80])
            seen.add(name)
    return members


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_SAFE_INTEGER:
        raise DocumentError(f"JSON: the integer {digits[:40]} is beyond 2^53-1; send a smaller one or a string")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise DocumentError(f"JSON: the number {digits[:40]} does not fit a 64-bit float")
    return value


def _constant(name: str) -> NoReturn:
    raise DocumentError(f"JSON: {name} is not JSON (RFC 8259); send null for unknown")


def _check_depth(text: str) -> None:
    depth = 0
    in_string = False
    escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise DocumentError(f"JSON: nested deeper than {MAX_DEPTH}; flatten it")
        elif char in "]}":
            depth -= 1


def loads(data: bytes | str, limit: int | None = None) -> Any:
    """Decode one JSON text strictly. `limit` is a size in bytes.

    Raises DocumentError (naming line and column, key or number) or TooLarge.
    """
    if limit is not None and len(data) > limit:
        raise TooLarge(f"JSON: {len(data)} bytes, at most {limit} are taken", limit=limit)
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise DocumentError(f"JSON: byte {error.start} is not UTF-8", byte=error.start) from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        raise DocumentError(
            f"JSON: {error.msg} at line {error.lineno} column {error.colno}",
            line=error.lineno,
            column=error.colno,
        ) from None


def canonical(value: Any) -> bytes:
    """RFC 8785 canonical JSON of `value` (dict, list, str, int within 53 bits, finite float, bool, None)."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise DocumentError(f"JSON: not canonicalisable: {error}") from None


def digest(value: Any) -> bytes:
    """SHA-256 over the canonical JSON of `value`, 32 bytes."""
    return hashlib.sha256(canonical(value)).digest()
