"""Fingerprints: situations encoded by a schema, so that Euclidean distance is the experts' dissimilarity."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from registry.errors import FingerprintError, SituationError
from registry.likeness.schema import Schema
from registry.yamltext import nearest

Fingerprint = npt.NDArray[np.float32]


def encode(schema: Schema, situation: Mapping[str, object]) -> Fingerprint:
    """The fingerprint of a situation, (d,) float32; a feature that is left out or None is missing.

    The same bits on every machine (docs/fingerprint.md). Raises SituationError naming every feature that does not
    fit, its value, and what would be right.
    """
    return np.frombuffer(_bytes(schema, situation), dtype="<f4").astype(np.float32)


def to_base64(fingerprint: Fingerprint) -> str:
    """Base64 of the float32 little-endian bytes."""
    return base64.b64encode(fingerprint.astype("<f4").tobytes()).decode("ascii")


def from_wire(value: object, d: int) -> Fingerprint:
    """A fingerprint (d,) from JSON: base64 of float32 little-endian, or a list.

    Raises FingerprintError.
    """
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise FingerprintError("the fingerprint is not base64; send base64 of float32 or a list") from None
        if len(data) != 4 * d:
            raise FingerprintError(
                f"the fingerprint is {len(data)} bytes long, this domain's are {4 * d} (float32 x {d})", d=d
            )
        fingerprint = np.frombuffer(data, dtype="<f4").astype(np.float32)
    elif isinstance(value, list):
        if len(value) != d:
            raise FingerprintError(f"the fingerprint has {len(value)} numbers, this domain's have {d}", d=d)
        for axis, number in enumerate(value):
            if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 3.4e38:
                raise FingerprintError(f"fingerprint[{axis}]: {number!r:.60} is not a finite float32", axis=axis)
        fingerprint = np.array(value, dtype=np.float32)
    else:
        raise FingerprintError(f"a fingerprint is base64 or a list of {d} numbers, found {type(value).__name__}", d=d)
    if not np.isfinite(fingerprint).all():
        axis = int(np.flatnonzero(~np.isfinite(fingerprint))[0])
        raise FingerprintError(f"fingerprint[{axis}]: {fingerprint[axis]} is not finite", axis=axis)
    return fingerprint


def check_space(schema: Schema, space: object) -> None:
    """Raise FingerprintError unless `space` is the hex digest of this schema's space."""
    if space != schema.space.hex():
        raise FingerprintError(
            f"the fingerprint is of space {str(space)[:64]!r}, this domain's is {schema.space.hex()}; encode the "
            "situation with this domain's schema",
            space=schema.space.hex(),
        )


def _bytes(schema: Schema, situation: Mapping[str, object]) -> bytes:
    known = 0
    parts: list[bytes] = []
    try:
        for feature in schema.features:
            value = situation.get(feature.name)
            known += value is not None or feature.name in situation
            parts.append(feature.place(value))
    except SituationError:
        _refuse(schema, situation)
    if known != len(situation):
        _refuse(schema, situation)
    return b"".join(parts)


def _refuse(schema: Schema, situation: Mapping[str, object]) -> NoReturn:
    """Name all that is wrong."""
    problems: list[tuple[str, str]] = []
    features = {feature.name: feature for feature in schema.features}
    for name in situation:
        if name in schema.after_action:
            what = f"{name}: is known only after the action ({schema.after_action[name]}); leave it out"
            problems.append((name, what))
        elif name not in features:
            problems.append((str(name)[:80], f"{name!r:.80}: no such feature; {nearest(str(name), features)}"))
    for name, feature in features.items():
        try:
            feature.place(situation.get(name))
        except SituationError as error:
            problems.append((name, error.detail))
    raise SituationError(
        "; ".join(what for _, what in problems),
        feature=problems[0][0],
        path=problems[0][0],
        problems=[{"path": name, "what": what} for name, what in problems],
    )
