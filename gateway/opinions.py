"""Opinions: the own K nearest of each network that was asked, whatever is nearer elsewhere.

Whom a question has asked for what lies within a radius is asked once more, without it; all at once, in the time that is
left. Who does not answer has no opinion: it counts as nobody's fault, as the answer itself does not rest on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.asking import Asking
from gateway.fanout import Answered, Fanout
from gateway.merge import Merge
from gateway.neighbours import Neighbours
from regional.atombatch import AtomBatch
from regional.batch import Batch


@dataclass(frozen=True, slots=True)
class Heard:
    """What a network has answered. whole: its own K nearest, and not only those within a radius."""

    answered: Answered
    whole: bool


async def opinions(
    asking: Asking, fanout: Fanout, heard: Sequence[Heard], others: Sequence[str]
) -> dict[str, Neighbours]:
    """By network, its own K nearest of each action. others: networks that the question itself did not need."""
    again = [each.answered.network for each in heard if not each.whole] + list(others)
    replies = await asyncio.gather(*(fanout.ask(network, asking.opinion(network), lapsed=False) for network in again))
    said = [each.answered for each in heard if each.whole] + list(replies)
    batches = {each.network: each.reply.packets for each in said if each.reply is not None and len(each.reply.packets)}
    return {network: found for network in sorted(batches) if (found := _own(asking, network, batches)) is not None}


def _own(asking: Asking, network: str, batches: Mapping[str, Batch | AtomBatch]) -> Neighbours | None:
    """None where one of them is no packet."""
    actions = asking.actions or asking.schema.actions
    merge = Merge(asking.query, asking.question.k, actions)
    merge.add(network, batches[network], {})
    if merge.faulty() is not None:
        return None
    return merge.nearest().columns(asking.schema.dimension, asking.question.k, "action", merge.kths())
