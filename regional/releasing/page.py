"""A page: the atoms of one region of a network, as octets that are called by their digest.

Deterministic CBOR (RFC 8949 section 4.2) of a map of columns; numbers in them are little-endian, one after the other.
Nothing in it tells of an epoch, so a page that stays as it is keeps its digest, and whoever has it need not fetch it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cbor2
import numpy as np
import numpy.typing as npt

from regional.cohort import Figures
from regional.releasing.atom import ID_OCTETS, Atom
from registry.errors import DocumentError
from registry.geometry.region import Region, squared_distances

VERSION: Final = 1
MAX_PAGE: Final = 4 * 1024 * 1024  # octets
MAX_ATOMS: Final = 65_536
_ROUNDING: Final = 1.0 + 1e-12
_MEMBERS: Final = frozenset(
    {"v", "domain", "network", "space", "step", "actions", "number", "size", "weight", "action", "place", "outcomes"}
)
_FIGURES: Final = {"n": "<u4", "events": "<u4", "weight": "<f8", "weight2": "<f8", "mean": "<f8", "variance": "<f8"}
_WIDTHS: Final = ("<i2", "<i4", "<i8")  # of a coordinate: as wide as the farthest needs

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Home:
    """Whose page it is. space: the 32 octets of its digest. step: edge of the domain's public grid."""

    domain: str
    network: str
    space: bytes
    dimension: int
    step: float


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """n atoms as columns. centres: (n, d) float64; sizes: (n,) persons; weights: (n,) sums of their sample weights.

    nodes: the ids of the atoms, as nodes have theirs; actions: n names, "" for none. figures: per atom, of the outcomes
    that are told.
    """

    centres: Float64s
    nodes: tuple[bytes, ...]
    actions: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    weights: Float64s
    figures: tuple[Mapping[str, Figures], ...]

    def __len__(self) -> int:
        return len(self.nodes)

    def counts(self) -> dict[str, int]:
        """Persons by action."""
        found: dict[str, int] = {}
        for action, size in sorted(zip(self.actions, self.sizes.tolist(), strict=True)):
            found[action] = found.get(action, 0) + size
        return found

    def region(self, digest: str) -> Region:
        """What the coverage says of it: of the centres, which are public, alone. digest: of the page, hexadecimal."""
        shares = self.sizes / self.sizes.sum()
        centre: Float64s = shares @ self.centres
        distances2 = squared_distances(self.centres, centre)
        mean = float(shares @ distances2)
        return Region(
            id=digest,
            counts=self.counts(),
            centre=centre,
            radius=float(np.sqrt(distances2.max())) * _ROUNDING,
            lo=self.centres.min(axis=0),
            hi=self.centres.max(axis=0),
            var=shares @ (self.centres - centre) ** 2,
            spread=float(shares @ (distances2 - mean) ** 2),
        )


def page_bytes(atoms: Sequence[Atom], home: Home) -> bytes:
    """The page of these atoms, at least one, in the order of their numbers."""
    ordered = sorted(atoms, key=lambda atom: atom.number)
    actions = sorted({atom.action for atom in ordered})
    places = np.array([atom.place for atom in ordered], dtype=np.int64)
    width = next(each for each in _WIDTHS if np.abs(places).max() < np.iinfo(each).max)
    names = sorted({name for atom in ordered for name in atom.figures})
    nothing = Figures(0, 0, 0.0, 0.0, 0.0, 0.0)
    outcomes = {
        name: {
            column: np.array([getattr(atom.figures.get(name, nothing), column) for atom in ordered], kind).tobytes()
            for column, kind in _FIGURES.items()
        }
        for name in names
    }
    document = {
        "v": VERSION,
        "domain": home.domain,
        "network": home.network,
        "space": home.space,
        "step": home.step,
        "actions": actions,
        "number": np.array([atom.number for atom in ordered], "<u8").tobytes(),
        "size": np.array([atom.size for atom in ordered], "<u4").tobytes(),
        "weight": np.array([atom.weight for atom in ordered], "<f8").tobytes(),
        "action": bytes(actions.index(atom.action) for atom in ordered),
        "place": places.astype(width).tobytes(),
        "outcomes": outcomes,
    }
    return cbor2.dumps(document, canonical=True)


def digest_of(data: bytes) -> str:
    """What a page is called: its SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_page(data: bytes, home: Home, least: int) -> Page:
    """The atoms of a page of `home`, each of `least` persons or more.

    Raises DocumentError for what is no such page, another's, or tells of impossible figures or too few persons.
    """
    found = _map(data)
    if set(found) != _MEMBERS or found["v"] != VERSION:
        raise DocumentError(f"a page has the members {', '.join(sorted(_MEMBERS))}, and v={VERSION}")
    for name, right in (("domain", home.domain), ("network", home.network), ("space", home.space), ("step", home.step)):
        if found[name] != right:
            raise DocumentError(f"the page's {name} is {found[name]!r:.80}, {right!r:.80} would be right", path=name)
    actions = found["actions"]
    if not (isinstance(actions, list) and all(isinstance(each, str) for each in actions)):
        raise DocumentError("actions: a list of names would be right", path="actions")
    numbers = _column(found["number"], "<u8", None, "number")
    n = len(numbers)
    if not 1 <= n <= MAX_ATOMS or len(set(numbers.tolist())) != n:
        raise DocumentError(f"a page has 1 to {MAX_ATOMS} atoms of different numbers, this one {n}", path="number")
    size = _column(found["size"], "<u4", n, "size").astype(np.int64)
    if int(size.min()) < least:
        raise DocumentError(f"size: an atom has {size.min()} persons; {least} at least are released here", path="size")
    action = _column(found["action"], "u1", n, "action")
    if int(action.max()) >= len(actions):
        raise DocumentError("action: a place beyond the list of actions", path="action")
    weight = _column(found["weight"], "<f8", n, "weight")
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise DocumentError("weight: finite numbers of at least 0 would be right", path="weight")
    return Page(
        centres=_places(found["place"], n, home),
        nodes=tuple(number.to_bytes(ID_OCTETS, "big") for number in numbers.tolist()),
        actions=tuple(actions[place] for place in action.tolist()),
        sizes=size,
        weights=weight,
        figures=_figures(found["outcomes"], size, least),
    )


def _map(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_PAGE:
        raise DocumentError(f"a page has {MAX_PAGE} octets at most, this one {len(data)}")
    try:
        found = cbor2.loads(data, max_depth=4, allow_indefinite=False, allow_duplicate_keys=False)
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError) as error:
        raise DocumentError(f"the page is no CBOR: {error}"[:200]) from None
    if not isinstance(found, dict):
        raise DocumentError("a page is a map")
    return found


def _column(value: object, kind: str, n: int | None, path: str) -> npt.NDArray[Any]:
    width = np.dtype(kind).itemsize
    if not isinstance(value, bytes) or len(value) % width or n not in (None, len(value) // width):
        raise DocumentError(f"{path}: {n or 'some'} numbers of {width} octets each would be right", path=path)
    return np.frombuffer(value, dtype=kind)


def _places(value: object, n: int, home: Home) -> Float64s:
    """(n, d): the centres. Every step is a whole multiple of a power of two, so the product is exact."""
    octets = len(value) if isinstance(value, bytes) else 0
    kinds = [kind for kind in _WIDTHS if octets == n * home.dimension * np.dtype(kind).itemsize]
    if not kinds:
        raise DocumentError(f"place: {n} times {home.dimension} coordinates would be right", path="place")
    places = _column(value, kinds[0], n * home.dimension, "place").astype(np.float64)
    centres: Float64s = (places * home.step).reshape(n, home.dimension)
    return centres


def _figures(outcomes: object, size: npt.NDArray[np.int64], least: int) -> tuple[dict[str, Figures], ...]:
    if not isinstance(outcomes, dict):
        raise DocumentError("outcomes: a map would be right", path="outcomes")
    found: tuple[dict[str, Figures], ...] = tuple({} for _ in size)
    for name, columns in outcomes.items():
        path = f"outcomes.{name!s:.60}"
        if not (isinstance(name, str) and isinstance(columns, dict) and columns.keys() == _FIGURES.keys()):
            raise DocumentError(f"{path}: the columns {', '.join(_FIGURES)} would be right", path=path)
        rows = [_column(columns[each], kind, len(size), f"{path}.{each}").tolist() for each, kind in _FIGURES.items()]
        for place, row in enumerate(zip(*rows, strict=True)):
            figures = Figures(*row)
            if figures.n == 0:
                continue
            if not _possible(figures, int(size[place]), least):
                raise DocumentError(f"{path}: figures that no {size[place]} persons have: {figures}", path=path)
            found[place][name] = figures
    return found


def _possible(figures: Figures, size: int, least: int) -> bool:
    """Whether `size` persons at most, `least` of whom at least are known, can have these."""
    return (
        least <= figures.n <= size
        and figures.events <= figures.n
        and all(map(math.isfinite, figures))
        and figures.weight > 0
        and figures.weight2 > 0
        and figures.variance >= 0
    )
