"""What a network of persons shows: the pages of its newest epoch, the tables that go with it, and the signed index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from regional.packets.packet import Packet
from regional.releasing.atom import step_of
from regional.releasing.attachment import Attachment
from regional.releasing.epoch import EpochIndex, PageEntry, TableEntry
from regional.releasing.ledger import Ledger
from regional.releasing.page import Home, digest_of, page_bytes, read_page
from regional.releasing.release import Held, Person, Rules, State, advance, lacking
from regional.releasing.withdrawals import Withdrawals
from registry.clock import Clock
from registry.errors import Conflict
from registry.geometry.region import Region
from registry.jsontext import canonical
from registry.keys import SigningKey
from registry.likeness.schema import Schema

PAGE_TYPE: Final = "application/cbor"
TABLE_TYPE: Final = "application/octet-stream"


class Shown(NamedTuple):
    """What is served under a digest, and as what."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True, eq=False)
class Release:
    """One epoch, ready to be shown.

    regions: of its pages. persons: published. uncovered: nodes held that are in no atom; told: how many of these the
    coverage speaks of, a multiple of min_cohort, so that nobody's coming or going shows.
    enough: packets that must change before another epoch can come of it.
    """

    epoch: int
    shown: Mapping[str, Shown]
    pages: tuple[PageEntry, ...]
    tables: Mapping[str, TableEntry]
    regions: tuple[Region, ...]
    persons: int
    uncovered: frozenset[bytes]
    told: int
    enough: int


class Publication:
    """Of one network. `advance` blocks; call it in a thread, one at a time."""

    def __init__(
        self,
        name: str,
        domain: str,
        schema: Schema,
        min_cohort: int,
        ledger: Ledger,
        withdrawals: Withdrawals,
        clock: Clock,
        attachments: Sequence[Attachment] = (),
    ) -> None:
        """Raises Conflict where the ledger, which is closed then, is older than what was published."""
        if ledger.state.epoch < withdrawals.epoch:
            ledger.close()
            raise Conflict(
                f"{name}: the ledger of atoms is of epoch {ledger.state.epoch}, published was epoch "
                f"{withdrawals.epoch}; it must not be restored from a backup, for what it forgot would give persons "
                "away: put the newer one back"
            )
        self._schema = schema
        self._least = min_cohort
        self._ledger = ledger
        self._withdrawals = withdrawals
        self._clock = clock
        self._home = Home(domain, name, schema.space, schema.dimension, step_of(schema))
        self._rules = Rules(schema.outcomes, min_cohort, self._home.step, ledger.secret, attachments)
        self._inside = _episodes(ledger.state)
        self._shown: Mapping[str, Shown] = {}
        self._index: bytes | None = None

    def close(self) -> None:
        """Let go of the ledger."""
        self._ledger.close()

    def holds(self, packet: Packet) -> bool:
        """Whether who the packet is of is in an atom, with this episode."""
        return Person.of(packet, self._rules.secret).episode in self._inside

    def advance(self, packets: Sequence[Packet]) -> Release:
        """The epoch that all packets held now lead to: the present one, or the next, which is then in the ledger.

        What was withdrawn is shown no longer when this returns. Raises StorageFull, with nothing changed.
        """
        persons = [Person.of(packet, self._rules.secret) for packet in packets]
        step = advance(self._ledger.state, persons, self._ledger, self._rules, self._clock.now())
        if step is not None:
            self._ledger.commit(step)
            self._withdrawals.note_epoch(step.state.epoch)
            self._inside = _episodes(step.state)
            if step.gone:
                self._shown, self._index = {}, None
        state = self._ledger.state
        pages, regions = self._pages(state)
        shown = {entry.digest: each for entry, each in pages}
        tables: dict[str, TableEntry] = {}
        for name, body in self._tables(state):
            digest = hashlib.sha256(body).hexdigest()
            tables[name] = TableEntry(digest, len(body))
            shown[digest] = Shown(body, TABLE_TYPE)
        uncovered = frozenset(person.packet.node for person in persons if person.episode not in self._inside)
        return Release(
            epoch=state.epoch,
            shown=shown,
            pages=tuple(entry for entry, _ in pages),
            tables=tables,
            regions=tuple(regions),
            persons=sum(each.atom.size for each in state.held.values()),
            uncovered=uncovered,
            told=len(uncovered) // self._least * self._least,
            enough=lacking(state, persons, self._ledger, self._rules),
        )

    def announce(self, release: Release, serial: int, issued: float, key: SigningKey) -> None:
        """Show this release from now on; serial: of the coverage that is, or is to be, made from it."""
        index = EpochIndex(
            domain=self._home.domain,
            network=self._home.network,
            space=self._schema.space.hex(),
            schema=self._schema.digest.hex(),
            epoch=release.epoch,
            serial=serial,
            issued=issued,
            min_cohort=self._least,
            step=self._home.step,
            pages=release.pages,
            tables=release.tables,
        )
        self._shown, self._index = release.shown, canonical(index.document(key))

    @property
    def index(self) -> bytes | None:
        """The signed index as JSON; None before the first is announced, and after a withdrawal until the next is."""
        return self._index

    def shown(self, digest: str) -> Shown | None:
        """A page or a table of the epoch that the index names."""
        return self._shown.get(digest)

    def _pages(self, state: State) -> tuple[list[tuple[PageEntry, Shown]], list[Region]]:
        by_page: dict[int, list[Held]] = {}
        for each in state.held.values():
            by_page.setdefault(each.page, []).append(each)
        found, regions = [], []
        for number in sorted(by_page):
            body = page_bytes([each.atom for each in by_page[number]], self._home)
            page = read_page(body, self._home, self._least)
            digest = digest_of(body)
            regions.append(page.region(digest))
            found.append((PageEntry(digest, len(body), len(page), page.counts()), Shown(body, PAGE_TYPE)))
        return found, regions

    def _tables(self, state: State) -> list[tuple[str, bytes]]:
        found = []
        held = [state.held[number] for number in sorted(state.held)]
        for each in self._rules.attachments:
            body = each.table([(atom.atom, atom.parts[each.name]) for atom in held if each.name in atom.parts])
            if body is not None:
                found.append((each.name, body))
        return found


def _episodes(state: State) -> frozenset[bytes]:
    """Of all persons in atoms."""
    return frozenset(member.episode for each in state.held.values() for member in each.members)
