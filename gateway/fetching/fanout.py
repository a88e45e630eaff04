"""Asking one network: find its endpoints, ask them in turn, and say in every case what became of it.

Nothing is raised: a fan-out of tasks that raise would lose the others' answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from gateway.disposition import Disposition, Outcome
from gateway.fetching.deadline import Deadline
from gateway.fetching.resolver import Resolver
from regional.client import Failed, HandedOver, NearestReply, NearestRequest, Refused, TimedOut
from regional.reader import Reader
from regional.releasing.lifetable import Parent
from registry.errors import KindredError, LookupFailed
from registry.geometry.cell import Naming
from registry.likeness.schema import Schema
from registry.publishing.endpoint import scheme_of, shows_packets
from registry.resolving.lookup import NetworkInfo


@dataclass(frozen=True, slots=True)
class Answered:
    """What one network said, or why it did not. serial and age_s of its coverage, 0 where unknown.

    home: of a share, the network whose packets it holds; else itself. moved: what it was asked by was said of it before
    this serial of its registry's zone, and is not so any more; 0: it did not say so.
    """

    network: str
    outcome: Outcome
    reply: NearestReply | None
    serial: int
    issued: float
    home: str
    moved: int = 0


class Fanout:
    """The networks of one domain, asked with one deadline."""

    def __init__(self, resolver: Resolver, reader: Reader, naming: Naming, schema: Schema, deadline: Deadline) -> None:
        self._resolver = resolver
        self._reader = reader
        self._naming = naming
        self._schema = schema
        self._known = frozenset(["", *schema.actions])
        self._deadline = deadline
        self.parents: Mapping[str, Sequence[Parent]] = {}  # of networks of persons

    async def prepare(self, network: str, request: NearestRequest) -> None:
        """Have at hand what asking a network needs; what goes wrong, the asking will find."""
        with suppress(KindredError):
            info = await self._info(network)
            for endpoint in info.endpoints[:1]:
                self._check_release(endpoint)
                of_home, _ = self._of_home(network, info, request)
                await self._reader.prepare(endpoint, of_home, self._deadline.remaining())

    async def ask(self, network: str, request: NearestRequest, lapsed: bool) -> Answered:
        """Ask the network that `request` names; replicas in their order of priority, the next when one fails.

        network: its name in the answer, which is its DNS name where it is published by another registry.
        """
        started = self._deadline.elapsed()
        serial, issued, home, moved = 0, 0.0, network, 0
        reply: NearestReply | None = None
        try:
            info = await self._info(network)
            serial, issued = info.text.serial, info.text.issued
            request, home = self._of_home(network, info, request)
            reply = await self._reply(network, info, request)
            outcome = Outcome(Disposition.ANSWERED)
        except Refused as error:
            outcome = Outcome(Disposition.REFUSED, error.detail)
        except TimedOut as error:
            outcome = Outcome(Disposition.TIMED_OUT, error.detail)
        except LookupFailed as error:
            outcome = Outcome(Disposition.FAILED, f"its endpoints could not be looked up: {error.detail}")
        except HandedOver as error:
            outcome, moved = Outcome(Disposition.FAILED, error.detail), error.epoch
        except KindredError as error:
            outcome = Outcome(Disposition.FAILED, error.detail)
        if reply is None and lapsed and outcome.disposition is not Disposition.REFUSED:
            outcome = Outcome(Disposition.LAPSED, f"its lease is over; {outcome.reason}")
        ms = round((self._deadline.elapsed() - started) * 1000, 3)
        outcome = Outcome(outcome.disposition, outcome.reason, ms)
        return Answered(network, outcome, reply, serial, issued, home, moved)

    def _of_home(self, network: str, info: NetworkInfo, request: NearestRequest) -> tuple[NearestRequest, str]:
        """The request for the packets that the network holds, and whose they are, as the answer names it."""
        home = info.text.home
        if home is None:
            return request, network
        naming, _ = self._naming.owner(network)
        return replace(request, network=home), home if naming == self._naming else naming.network(home)

    async def gather(self, networks: Sequence[str]) -> None:
        """Have at hand whatever may be asked of these; nothing, where it is the networks that answer."""

    async def _info(self, network: str) -> NetworkInfo:
        """What DNS says of a network."""
        naming, name = self._naming.owner(network)
        kept = await self._resolver.network(naming, name, self._deadline.remaining())
        return kept.value

    async def _reply(self, network: str, info: NetworkInfo, request: NearestRequest) -> NearestReply:  # noqa: ARG002
        """What the network says, by the first endpoint that answers."""
        failure: KindredError = Failed("it has no endpoint")
        for endpoint in info.endpoints:
            try:
                self._check_release(endpoint)
                reply = await self._reader.nearest(endpoint, request, self._deadline.remaining())
                if strays := set(reply.packets.actions) - self._known:
                    raise Failed(f"a packet has the action {min(strays)!r:.60}, which the schema does not know")
                return reply
            except HandedOver:
                raise
            except (Failed, TimedOut) as error:
                failure = error
            if not self._deadline.remaining():
                break
        raise failure

    def _check_release(self, endpoint: str) -> None:
        """Raise Refused where the endpoint shows every packet and the domain does not allow that."""
        if self._schema.release != "packets" and shows_packets(endpoint):
            what = f"{self._naming.domain} releases {self._schema.release}"
            raise Refused(f"{what}; what is read at {scheme_of(endpoint)}: is packets")
