"""The directory of one bucket: a tree of small pages in which near packets stand together.

A change alters one leaf and the pages above it; all others keep their names, so that nobody writes or reads them anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from regional.engines.dht.item import ALL, HASH, MAX_ACTIONS, MAX_NAMES, MAX_VALUE, Key, Point, Ref, index, leaf
from regional.engines.dht.item import name_of as item_name
from registry.geometry.region import squared_distances

MAX_KEYS: Final = 32  # of a leaf, where nodes are short enough
MIN_KEYS: Final = 8  # a leaf of fewer is dissolved
_ROOM: Final = MAX_VALUE - 20  # for what a page begins with
_REF: Final = HASH + 20  # bytes of a Ref, without its box, at most


class _Held(NamedTuple):
    seq: int
    point: Point
    action: str


class _Page:
    """A leaf has keys, another page has pages."""

    __slots__ = ("centre", "centres", "keys", "pages", "parent", "ref", "size", "value")

    def __init__(self, centre: Point, keys: dict[bytes, _Held] | None = None) -> None:
        self.parent: _Page | None = None
        self.keys = keys
        self.pages: list[_Page] = []
        self.size = 0  # bytes of the keys
        self.centre = centre
        self.centres: Point | None = None  # of `pages`, (len, d), where they are known
        self.ref: Ref | None = None  # None where it has changed
        self.value = b""

    def take(self, pages: list[_Page]) -> None:
        self.pages = pages
        self.centres = None
        for each in pages:
            each.parent = self


class Tree:
    """Packets of dimension d by node. `commit` tells the pages that are new."""

    def __init__(self, d: int) -> None:
        self._fanout = _ROOM // (_REF + 2 * d)
        self._root = _Page(np.zeros(d), {})
        self._at: dict[bytes, _Page] = {}
        self._bits: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, node: bytes) -> bool:
        return node in self._at

    @property
    def top(self) -> Ref | None:
        """The root's page, as of the last commit."""
        return self._root.ref if self._at else None

    @property
    def actions(self) -> tuple[str, ...] | None:
        """The actions of the masks' bits; None where they are too many for a head."""
        names = tuple(self._bits)
        fit = len(names) <= MAX_ACTIONS and sum(len(each.encode()) + 3 for each in names) <= MAX_NAMES
        return names if fit else None

    def put(self, node: bytes, seq: int, point: Point, action: str) -> None:
        """Have this node here, at `point` (d,), whatever there was of it."""
        self._bits.setdefault(action, len(self._bits))
        page = self._at.get(node)
        if page is not None and page.keys is not None:
            if np.array_equal(page.keys[node].point, point):
                page.keys[node] = _Held(seq, point, action)
                _touch(page)
                return
            self.remove(node)
        self._place(node, _Held(seq, point, action))

    def remove(self, node: bytes) -> None:
        """Have it no longer."""
        page = self._at.pop(node)
        left = page.keys or {}
        del left[node]
        page.size -= _room(node)
        _touch(page)
        if len(left) < MIN_KEYS and page.parent is not None:
            self._detach(page, page.parent)
            for other, held in left.items():
                self._place(other, held)

    def commit(self) -> dict[bytes, bytes]:
        """Pages that have come since the last commit, by name."""
        found: dict[bytes, bytes] = {}
        if self._at:
            self._commit(self._root, found)
        return found

    def pages(self) -> Iterator[tuple[bytes, bytes]]:
        """All pages as of the last commit, by name."""
        waiting = [self._root] if self._at else []
        while waiting:
            page = waiting.pop()
            waiting += page.pages
            if page.ref is not None:
                yield page.ref.name, page.value

    def _place(self, node: bytes, held: _Held) -> None:
        page = self._root
        while page.keys is None:
            if page.centres is None:
                page.centres = np.stack([each.centre for each in page.pages])
            page = page.pages[int(np.argmin(squared_distances(page.centres, held.point)))]
        page.keys[node] = held
        page.size += _room(node)
        self._at[node] = page
        _touch(page)
        if len(page.keys) > MAX_KEYS or page.size > _ROOM:
            self._split(page)

    def _split(self, page: _Page) -> None:
        """Into two halves along the axis on which it is widest; those above it where they are full then."""
        if page.keys is not None:
            nodes = list(page.keys)
            points = np.stack([page.keys[node].point for node in nodes])
        else:
            points = np.stack([each.centre for each in page.pages])
        order = np.argsort(points[:, int(np.argmax(points.var(axis=0)))], kind="stable").tolist()
        halves = []
        for rows in (order[: len(order) // 2], order[len(order) // 2 :]):
            half = _Page(points[rows].mean(axis=0))
            if page.keys is not None:
                half.keys = {nodes[row]: page.keys[nodes[row]] for row in rows}
                half.size = sum(map(_room, half.keys))
                self._at.update(dict.fromkeys(half.keys, half))
            else:
                half.take([page.pages[row] for row in rows])
            halves.append(half)
        above = page.parent
        if above is None:
            self._root = _Page(points.mean(axis=0))
            self._root.take(halves)
            return
        above.take([*(each for each in above.pages if each is not page), *halves])
        _touch(above)
        if len(above.pages) > self._fanout:
            self._split(above)

    def _detach(self, page: _Page, above: _Page) -> None:
        above.take([each for each in above.pages if each is not page])
        _touch(above)
        if not above.pages and above.parent is not None:
            self._detach(above, above.parent)
        while len(self._root.pages) == 1:
            self._root = self._root.pages[0]
            self._root.parent = None

    def _commit(self, page: _Page, found: dict[bytes, bytes]) -> Ref:
        if page.ref is not None:
            return page.ref
        if page.keys is not None:
            points = np.stack([held.point for held in page.keys.values()])
            centre, lo, hi = points.mean(axis=0), points.min(axis=0), points.max(axis=0)
            value = leaf([Key(node, page.keys[node].seq) for node in sorted(page.keys)])
            level, n, mask = 0, len(page.keys), 0
            for held in page.keys.values():
                bit = self._bits[held.action]
                mask |= 1 << bit if bit < MAX_ACTIONS else ALL
        else:
            refs = [self._commit(each, found) for each in page.pages]
            value = index(refs)
            level, n, mask = refs[0].level + 1, sum(each.n for each in refs), 0
            for each in refs:
                mask |= each.mask
            centre = np.average([each.centre for each in page.pages], axis=0, weights=[each.n for each in refs])
            lo, hi = np.min([each.lo for each in refs], axis=0), np.max([each.hi for each in refs], axis=0)
            page.centres = None
        page.centre = centre
        page.value = value
        page.ref = Ref(level, item_name(value), n, mask, lo, hi)
        found[page.ref.name] = value
        return page.ref


def _touch(page: _Page | None) -> None:
    while page is not None and page.ref is not None:
        page.ref = None
        page = page.parent


def _room(node: bytes) -> int:
    return len(node) + 11  # heads, and a seq of 64 bits
