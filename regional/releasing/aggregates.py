"""A network of persons: what it keeps never leaves it, what it publishes are atoms."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from regional.covering import Covering
from regional.engine import Engine
from regional.network import Network
from regional.packets.packet import Packet
from regional.releasing.publication import Publication
from regional.releasing.withdrawals import Withdrawals
from regional.survey import Survey
from registry.clock import Clock
from registry.keys import SigningKey
from registry.likeness.schema import Schema


class AggregateNetwork(Network):
    """A member of a domain that releases aggregates. `publication`, which is its own, says what is shown of it.

    A packet is covered once its person is in an atom; until then it waits in the pool, and is uncovered.
    """

    def __init__(
        self,
        name: str,
        domain: str,
        schema: Schema,
        engine: Engine,
        min_cohort: int,
        clock: Clock,
        publication: Publication,
        withdrawals: Withdrawals,
    ) -> None:
        super().__init__(name, domain, schema, engine, min_cohort, clock, withdrawals=withdrawals)
        self.publication = publication
        self._enough = 1  # changes before another epoch can come of them
        self._erased = False

    async def close(self) -> None:
        """Finish what was begun, and let go."""
        await super().close()
        self.publication.close()

    def told(self) -> dict[str, int]:
        """As the published coverage says it, and nothing that has happened since."""
        published = self.published
        if published is None:
            return {"packets": 0, "uncovered": 0}
        return {"packets": published.packets, "uncovered": published.uncovered}

    @property
    def pending(self) -> bool:
        """Whether a new epoch is wanted."""
        return self._published is None or self._erased or self._changes >= self._enough

    async def survey(self) -> Survey:
        """The epoch that follows from what is held now; what is deposited until `adopt` or `abandon` is remembered."""
        self._during = []
        self._erased = False
        packets = [Packet.read_cbor(data) for data in await self.packets()]
        release = await asyncio.to_thread(self.publication.advance, packets)
        self._enough = release.enough
        return Survey(release.regions, release.persons, release.uncovered, release)

    def announce(self, survey: Survey, serial: int, issued: float, key: SigningKey) -> None:
        """Show the epoch of this survey from now on."""
        if survey.release is not None:
            self.publication.announce(survey.release, serial, issued, key)

    def _note(self, packets: Sequence[Packet], inside: Sequence[bool]) -> None:
        self._erased = self._erased or any(packet.tombstone for packet in packets)
        super()._note(packets, inside)

    async def _inside(self, covering: Covering, packets: Sequence[Packet]) -> list[bool]:  # noqa: ARG002
        return [not packet.tombstone and self.publication.holds(packet) for packet in packets]
