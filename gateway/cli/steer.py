"""Commands to networks that run: signed by the network's key, sent to its service, followed to their end."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from gateway.configuration.config import FederationConfig, NetworkConfig
from registry.clock import Clock
from registry.errors import DocumentError, Unavailable, UnknownName
from registry.http.client import raise_problem
from registry.jsontext import loads
from registry.keys import SigningKey, sign_document
from registry.publishing.member import home_of

TIMEOUT_S = 60.0
LOOK_S = 0.2


class Steering:
    """Of the network `name`, or of the one that it is a share of; whose key is in data_dir."""

    def __init__(self, config: FederationConfig, name: str, clock: Clock) -> None:
        network = config.networks.get(name) or config.networks.get(home_of(name) or "")
        if network is None:
            raise UnknownName(f"{config.file}: no network is called {name!r}")
        self.network: NetworkConfig = network
        self._name = name
        self._clock = clock
        self._key = SigningKey.from_file(config.data_dir / "keys" / network.name)
        self._base = f"http://{network.listen}/{name}/v1"
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def command(self, what: str, **members: Any) -> Mapping[str, Any]:
        """Give a command; returns when the network has begun. Raises what it is refused with, Unavailable."""
        document = {"v": 1, "network": self._name, "issued": self._clock.now(), **members}
        return await self._call("POST", what, orjson.dumps(sign_document(document, self._key)))

    async def state(self) -> Mapping[str, Any]:
        """What the network and its shares are doing."""
        return await self._call("GET", "shares", None)

    async def own_state(self) -> Mapping[str, Any]:
        """What the one named is doing: {at, to, clearing, copied, packets, trouble}."""
        found: Mapping[str, Any] = next(each for each in (await self.state())["shares"] if each["name"] == self._name)
        return found

    async def _call(self, method: str, path: str, body: bytes | None) -> Mapping[str, Any]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        url = f"{self._base}/{path}"
        try:
            async with self._session.request(method, url, data=body, headers=headers) as response:
                status, data = response.status, await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            what = f"{type(error).__name__}: {error}"
            raise Unavailable(f"{self.network.name} does not answer at {self.network.listen} ({what})") from None
        try:
            reply = loads(data)
        except DocumentError:
            reply = None
        if not isinstance(reply, dict):
            raise Unavailable(f"{url}: status {status} with a reply that is no JSON object")
        if status != 200:
            raise_problem(status, reply)
        return reply
