"""Many messages to a NATS stream at once, and the stream's word on each: one subscription hears all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError, NoStreamResponseError

AWAY: Final = "KV-Operation"  # the header of a message that takes a key away
_NO_RESPONDERS: Final = "503"


class Outgoing(NamedTuple):
    """A subject, its new value, None to take it away, and what the stream must be like."""

    subject: str
    value: bytes | None
    headers: dict[str, str]


class _Group:
    """Messages under way together."""

    def __init__(self, n: int) -> None:
        self.replies: list[int | Exception | None] = [None] * n
        self.missing = n
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Acks:
    """Acknowledgements by the subjects to which they are sent: INBOX.GROUP.NUMBER."""

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox
        self._groups: dict[str, _Group] = {}
        self._next = 0

    @classmethod
    async def opened(cls, client: Client) -> Acks:
        """Listening on a connection."""
        made = cls(client.new_inbox())
        await client.subscribe(f"{made._inbox}.*.*", cb=made._hear)
        return made

    async def publish(self, client: Client, messages: Sequence[Outgoing]) -> list[int | Exception]:
        """The revision of each, or the server's error; waits for all."""
        name = str(self._next)
        self._next += 1
        group = self._groups[name] = _Group(len(messages))
        try:
            for number, (subject, value, headers) in enumerate(messages):
                told = headers if value is not None else {**headers, AWAY: "DEL"}
                await client.publish(subject, value or b"", f"{self._inbox}.{name}.{number}", told)
            if messages:
                await group.done
        finally:
            del self._groups[name]
        return [reply for reply in group.replies if reply is not None]

    async def _hear(self, message: Msg) -> None:
        _, name, number = message.subject.rsplit(".", 2)
        group = self._groups.get(name)
        if group is None or group.replies[int(number)] is not None:
            return
        group.replies[int(number)] = _word(message)
        group.missing -= 1
        if not group.missing and not group.done.done():
            group.done.set_result(None)


def _word(message: Msg) -> int | Exception:
    if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
        return NoStreamResponseError()
    found = json.loads(message.data)
    if "error" not in found:
        return int(found["seq"])
    try:
        APIError.from_error(found["error"])
    except APIError as error:
        return error
    return NoStreamResponseError()
