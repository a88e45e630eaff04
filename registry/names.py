"""The names of a branch of a zone: immutable, and cheap to change, as versions share what is equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from registry.rrset import RRset

Node = tuple[RRset, ...]  # of one name; () at an empty non-terminal
Branch = Mapping[bytes, Node]  # names by their labels before the apex, in wire form

_NAMES_PER_SHARD = 64


class Names(Branch):
    """A hash table of small dicts: a change copies those that it touches and the list of them."""

    __slots__ = ("_mask", "_shards", "_size")

    def __init__(self, names: Branch) -> None:
        amount = 1
        while amount * _NAMES_PER_SHARD < len(names):
            amount *= 2
        shards: list[dict[bytes, Node]] = [{} for _ in range(amount)]
        self._mask = amount - 1
        for labels, node in names.items():
            shards[hash(labels) & self._mask][labels] = node
        self._shards = shards
        self._size = len(names)

    def __getitem__(self, labels: bytes) -> Node:
        return self._shards[hash(labels) & self._mask][labels]

    def get(self, labels: bytes, default: Node | None = None) -> Node | None:  # type: ignore[override]
        """The node, or `default`."""
        return self._shards[hash(labels) & self._mask].get(labels, default)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        for shard in self._shards:
            yield from shard

    def changed(self, changes: Mapping[bytes, Node | None]) -> Names:
        """These names with `changes`, None for a name that goes; what does not change is shared."""
        result = object.__new__(Names)
        shards = list(self._shards)
        own: set[int] = set()
        size = self._size
        for labels, node in changes.items():
            number = hash(labels) & self._mask
            if number not in own:
                own.add(number)
                shards[number] = dict(shards[number])
            shard = shards[number]
            size += (node is not None) - (labels in shard)
            if node is None:
                shard.pop(labels, None)
            else:
                shard[labels] = node
        result._shards, result._mask, result._size = shards, self._mask, size
        return Names(result) if size > 4 * _NAMES_PER_SHARD * len(shards) else result

    def differing(self, after: Names) -> Iterator[bytes]:
        """The names whose nodes are not the same objects here and in `after`, which came of this."""
        if self._mask != after._mask:
            yield from self.keys() | after.keys()
            return
        for old, new in zip(self._shards, after._shards, strict=True):
            if old is not new:
                yield from (labels for labels in old.keys() | new.keys() if old.get(labels) is not new.get(labels))
