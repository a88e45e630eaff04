"""What a kept packet has beside its columns (regional/packets/batch.py): times, outcomes, weight and signature.

Many packets are decoded and checked at once, in few calls; only where something is out of place is each looked at on
its own. The rules are those of Packet.read_cbor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import cbor2

from regional.packets.packet import MAX_TEXT
from regional.packets.packetcbor import Outcome

_DEPTH: Final = 4  # a map of a map of pairs, and one to spare
_PLAIN: Final = frozenset({float, type(None)})
_MEMBERS: Final = tuple(range(11))
# The members of a packet that is not withdrawn, as the deterministic encoding orders them.
_LAYOUTS: Final = frozenset({_MEMBERS, (*_MEMBERS, 11), (*_MEMBERS, 12, 13), (*_MEMBERS, 11, 12, 13)})


class Details(NamedTuple):
    """As in Packet."""

    seq: int
    t0: float
    time: float
    outcomes: dict[str, Outcome]
    weight: float
    signer: bytes | None
    sig: bytes | None


def details_of(raw: Sequence[bytes], nodes: Sequence[bytes]) -> list[Details | None]:
    """Of packets of one network whose columns are sound, nodes among them: None for each that breaks a rule.

    Of one, since a packet that runs on could speak for those behind it.
    """
    together = _together(raw, nodes)
    return [_single(each) for each in raw] if together is None else list(together)


def _together(raw: Sequence[bytes], nodes: Sequence[bytes]) -> list[Details] | None:
    """All of them, decoded as one CBOR array; None where one is unusual, or wrong."""
    try:
        data = b"\x9a" + len(raw).to_bytes(4, "big") + b"".join(raw)
        maps = cbor2.loads(data, max_depth=_DEPTH + 1, allow_indefinite=False, allow_duplicate_keys=False)
        # A packet that ran over into the next one would have moved the nodes.
        if not _LAYOUTS.issuperset(map(tuple, maps)) or [m[4] for m in maps] != list(nodes):
            return None
        outcomes = [m[10] for m in maps]
        names = set().union(*outcomes)
        values = list(chain.from_iterable(map(dict.values, outcomes)))
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError, TypeError):
        return None
    weights = [m.get(11, 1.0) for m in maps]
    t0, time = [m[6] for m in maps], [m[7] for m in maps]
    floats = [*t0, *time, *weights]
    sound = (
        set(map(type, floats)) == {float}
        and all(map(math.isfinite, floats))
        and min(weights) >= 0.0
        and all(map(_is_name, names))
        and all(_is_signed(m.get(12), m.get(13)) for m in maps if 12 in m)
    )
    if not sound:
        return None
    if _PLAIN.issuperset(map(type, values)):
        if not all(map(math.isfinite, filter(None, values))):
            return None
    else:
        try:
            outcomes = [{name: _outcome(value) for name, value in each.items()} for each in outcomes]
        except ValueError:
            return None
    return [
        Details(m[5], a, b, found, weight, m.get(12), m.get(13))
        for m, a, b, found, weight in zip(maps, t0, time, outcomes, weights, strict=True)
    ]


def _single(raw: bytes) -> Details | None:
    try:
        m: Any = cbor2.loads(raw, max_depth=_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
        outcomes = {name: _outcome(value) for name, value in m[10].items()}
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError, KeyError, AttributeError):
        return None
    weight, signer, sig = m.get(11, 1.0), m.get(12), m.get(13)
    unsigned = signer is None and sig is None
    sound = (
        len(m) == 11 + (11 in m) + 2 * (not unsigned)
        and _is_float(m[6])
        and _is_float(m[7])
        and _is_float(weight)
        and weight >= 0.0
        and all(map(_is_name, outcomes))
        and (unsigned or _is_signed(signer, sig))
    )
    return Details(m[5], m[6], m[7], outcomes, weight, signer, sig) if sound else None


def _is_name(name: object) -> bool:
    """Whether it names an outcome."""
    try:
        return type(name) is str and 0 < len(name.encode()) <= MAX_TEXT
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _outcome(value: object) -> Outcome:
    """Raises ValueError."""
    if value is None or (type(value) is float and math.isfinite(value)):
        return value
    if type(value) is list and len(value) == 2 and _is_float(value[0]) and type(value[1]) is bool:
        return value[0], value[1]
    raise ValueError


def _is_float(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _is_signed(signer: object, sig: object) -> bool:
    return type(signer) is bytes and len(signer) == 32 and type(sig) is bytes and len(sig) == 64
