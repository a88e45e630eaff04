"""The values of a packet as they stand in JSON: each reader names the member that it cannot read."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from regional.packets.packetcbor import FLOAT32, Fingerprint, Outcome
from registry.errors import PacketError


def refuse(path: str, right: str, value: object) -> NoReturn:
    """Raise the PacketError that says what is wrong and what would be right."""
    raise PacketError(f"packet: {path} is {value!r:.60}; it must be {right}", path=path)


def decoded(value: object, path: str, right: str, decode: Callable[[str], bytes]) -> bytes:
    """What `decode` makes of a text. Raises PacketError."""
    try:
        return decode(value) if isinstance(value, str) and value.isascii() else refuse(path, right, value)
    except ValueError:
        return refuse(path, right, value)


def base64_bytes(value: object, path: str) -> bytes:
    """The bytes of a base64 text."""
    return decoded(value, path, "base64", lambda text: base64.b64decode(text, validate=True))


def number(value: object, path: str) -> float:
    """A number as a float; true and false are none."""
    if type(value) is int:
        return float(value)
    return value if type(value) is float else refuse(path, "a number", value)


def fingerprint(value: object, d: int) -> Fingerprint:
    """A fingerprint (d,) float32, from base64 of float32 little-endian or from a list."""
    if isinstance(value, list):
        with np.errstate(over="ignore"):  # what overflows float32 is found as infinite
            numbers = np.array([number(each, "fingerprint") for each in value], dtype=np.float64).astype(np.float32)
    else:
        raw = base64_bytes(value, "fingerprint")
        if len(raw) % 4:
            refuse("fingerprint", "base64 of float32, or a list of numbers", f"{len(raw)} bytes")
        numbers = np.frombuffer(raw, dtype=FLOAT32)
    if len(numbers) != d:
        refuse("fingerprint", f"of {d} axes", f"of {len(numbers)} axes")
    return numbers


def outcomes(value: object) -> dict[str, Outcome]:
    """Outcomes by name: number, [duration, event] or null."""
    if not isinstance(value, dict):
        refuse("outcomes", "an object of name and value", value)
    return {name: _outcome(each, f"outcomes.{name:.60}") for name, each in value.items()}


def _outcome(value: object, path: str) -> Outcome:
    if value is None or type(value) in (int, float):
        return None if value is None else number(value, path)
    if type(value) is list and len(value) == 2 and type(value[1]) is bool:
        return number(value[0], path), value[1]
    return refuse(path, "a number, [duration, event] or null", value)
