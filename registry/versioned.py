"""A mapping that never changes and is cheap to change: its versions share what is equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_KEYS_PER_SHARD = 64


class Versioned(Mapping[K, V]):
    """A hash table of small dicts: a change copies those that it touches and the list of them.

    Its order says nothing.
    """

    __slots__ = ("_mask", "_shards", "_size")

    def __init__(self, entries: Mapping[K, V]) -> None:
        amount = 1
        while amount * _KEYS_PER_SHARD < len(entries):
            amount *= 2
        shards: list[dict[K, V]] = [{} for _ in range(amount)]
        self._mask = amount - 1
        for key, value in entries.items():
            shards[hash(key) & self._mask][key] = value
        self._shards = shards
        self._size = len(entries)

    def __getitem__(self, key: K) -> V:
        return self._shards[hash(key) & self._mask][key]

    def get(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]
        """The value, or `default`."""
        return self._shards[hash(key) & self._mask].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._shards[hash(key) & self._mask]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[K]:
        for shard in self._shards:
            yield from shard

    def changed(self, changes: Mapping[K, V | None]) -> Self:
        """These entries with `changes`, None for a key that goes; what does not change is shared."""
        result = object.__new__(type(self))
        shards = list(self._shards)
        own: set[int] = set()
        size = self._size
        for key, value in changes.items():
            number = hash(key) & self._mask
            if number not in own:
                own.add(number)
                shards[number] = dict(shards[number])
            shard = shards[number]
            size += (value is not None) - (key in shard)
            if value is None:
                shard.pop(key, None)
            else:
                shard[key] = value
        result._shards, result._mask, result._size = shards, self._mask, size
        return type(self)(result) if size > 4 * _KEYS_PER_SHARD * len(shards) else result

    def differing(self, after: Versioned[K, V]) -> Iterator[K]:
        """The keys whose values are not the same objects here and in `after`; costs little where it came of this."""
        if self._mask != after._mask:
            yield from (key for key in self.keys() | after.keys() if self.get(key) is not after.get(key))
            return
        for old, new in zip(self._shards, after._shards, strict=True):
            if old is not new:
                yield from (key for key in old.keys() | new.keys() if old.get(key) is not new.get(key))
