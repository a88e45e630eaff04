"""Opinions: the own K nearest of each network that was asked, whatever is nearer elsewhere.

Whom a question has asked for what lies within a radius is asked once more, without it; all at once, in the time that is
left. Who does not answer has no opinion: it counts as nobody's fault, as the answer itself does not rest on it. The
shares of one network have one opinion together: what counts is who collected the packets, not who keeps them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.asking import Asking
from gateway.fetching.fanout import Answered, Fanout
from gateway.planning.merge import Merge
from gateway.planning.neighbours import Neighbours
from registry.geometry.cell import Naming
from registry.publishing.member import home_of


@dataclass(frozen=True, slots=True)
class Heard:
    """What a network has answered. whole: its own K nearest, and not only those within a radius."""

    answered: Answered
    whole: bool


async def opinions(
    asking: Asking, fanout: Fanout, heard: Sequence[Heard], others: Sequence[str], met: Sequence[str]
) -> dict[str, Neighbours]:
    """By home network, its own K nearest of each action.

    others: networks that the question itself did not need. met: networks whose regions the walk has seen; shares of
    those that are asked are among them.
    """
    known = {each.answered.network for each in heard} | set(others)
    homes = {each.answered.home for each in heard} | {_home(name, asking.naming) or name for name in others}
    beside = [name for name in met if name not in known and homes & {name, _home(name, asking.naming)}]
    again = [each.answered.network for each in heard if not each.whole] + [*others, *beside]
    replies = await asyncio.gather(*(fanout.ask(network, asking.opinion(network), lapsed=False) for network in again))
    said: dict[str, list[Answered]] = {}
    for answered in [*(each.answered for each in heard if each.whole), *replies]:
        said.setdefault(answered.home, []).append(answered)
    return {home: found for home in sorted(said) if (found := _own(asking, home, said[home])) is not None}


def _home(name: str, naming: Naming) -> str | None:
    """The network that one of this name may be a share of."""
    where, own = naming.owner(name)
    home = home_of(own)
    return home if home is None or where == naming else where.network(home)


def _own(asking: Asking, home: str, said: Sequence[Answered]) -> Neighbours | None:
    """None where there are none, one of them is no packet, or a share has not answered."""
    actions = asking.actions or asking.schema.actions
    merge = Merge(asking.query, asking.question.k, actions)
    for each in said:
        if each.reply is None:
            return None
        merge.add(each.network, each.reply.packets, each.reply.tied, home)
    if not merge.count() or merge.faulty() is not None:
        return None
    return merge.nearest().columns(asking.schema.dimension, asking.question.k, "action", merge.kths())
