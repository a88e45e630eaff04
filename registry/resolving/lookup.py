"""What a gateway asks of the registry's zones: apexes, cells, networks, decoded, whoever carries the records."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.dns.message import question, txt_strings, uri
from registry.dns.wire import SVCB, TXT, URI
from registry.errors import LookupFailed
from registry.geometry.cell import Address, CellRecord, Naming
from registry.resolving.source import Found, Source
from registry.zones.record import decode_cell
from registry.zones.texts import ApexText, NetworkText

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Looked(Generic[_Value]):
    """A value, how long it may be kept (seconds), and the serial its zone had, at least, when it was read.

    serial 0: not known. stale: beyond its time, for its carrier cannot reach whoever has newer. newest: see
    `registry.resolving.source.Found`.
    """

    value: _Value
    ttl_s: float
    serial: int
    stale: bool = False
    newest: int = 0


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """What DNS says of a network. endpoints: URIs, the preferred one first; empty where it has published none."""

    endpoints: tuple[str, ...]
    text: NetworkText


class Lookups:
    """Questions to a source. Every failure is a LookupFailed as `registry.resolving.source.Source` says."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def servers(self, naming: Naming) -> tuple[str, ...]:
        """Who answers for the domain's zone, host and port."""
        return self._source.servers(naming.apex)

    async def apex(self, naming: Naming, timeout_s: float) -> Looked[ApexText]:
        """What the domain's apex says; no newer than the serial that it says itself, whenever it was signed."""
        found = await self._source.find(naming.apex, question(naming.apex, TXT), timeout_s)
        with _garbage():
            text = ApexText.from_strings(_one_text(found, naming.apex))
            serial = found.serial if text.serial is None else min(found.serial, text.serial)
            return Looked(text, found.ttl_s, serial, found.stale, found.newest)

    async def cell(
        self,
        naming: Naming,
        generation: int,
        address: Address,
        actions: Sequence[str],
        d: int,
        timeout_s: float,
    ) -> Looked[tuple[CellRecord, ...]]:
        """The records of a cell. A child that does not lie directly below `address` is refused."""
        found = await self._source.find(naming.apex, question(naming.cell(generation, address), SVCB), timeout_s)
        with _garbage():
            cell = decode_cell(found.rdatas, naming, generation, actions, d)
            for record in cell:
                if record.child is not None and record.child[:-1] != address:
                    raise LookupFailed(f"the cell {address} points to {record.child}, which is no child of it")
        return Looked(cell, found.ttl_s, found.serial, found.stale, found.newest)

    async def network(self, naming: Naming, name: str, timeout_s: float) -> Looked[NetworkInfo]:
        """Endpoints and TXT of a network."""
        owner = naming.network(name)
        texts, uris = await asyncio.gather(
            self._source.find(naming.apex, question(owner, TXT), timeout_s),
            self._uris(naming, owner, timeout_s),
        )
        with _garbage():
            text = NetworkText.from_strings(_one_text(texts, owner))
            ranked = sorted(map(uri, uris.rdatas), key=lambda each: (each[0], -each[1], each[2]))
        info = NetworkInfo(tuple(each[2] for each in ranked), text)
        return Looked(info, min(texts.ttl_s, uris.ttl_s), texts.serial, texts.stale or uris.stale, texts.newest)

    async def close(self) -> None:
        """Close the source; questions under way fail."""
        await self._source.close()

    async def _uris(self, naming: Naming, owner: str, timeout_s: float) -> Found:
        """The URI records; a network may have none."""
        try:
            return await self._source.find(naming.apex, question(owner, URI), timeout_s)
        except LookupFailed as error:
            if error.where["rcode"] != "NODATA":
                raise
            return Found((), error.where["ttl_s"], 0)


@contextmanager
def _garbage() -> Iterator[None]:
    """What does not decode was a usable message with unusable contents."""
    try:
        yield
    except LookupFailed as error:
        error.where.setdefault("rcode", "GARBAGE")
        raise
    except (ValueError, struct.error) as error:
        raise LookupFailed(f"the name server's answer does not decode: {error}", rcode="GARBAGE") from None


def _one_text(found: Found, owner: str) -> tuple[bytes, ...]:
    if len(found.rdatas) != 1:
        raise LookupFailed(f"{owner} has {len(found.rdatas)} TXT records, one is right")
    return txt_strings(found.rdatas[0])
