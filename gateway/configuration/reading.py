"""How a gateway asks networks: a reader for every scheme that an endpoint may have, and what it may take.

reading:
  networks: 64
  packets: 1000000
  idle: 10m
  dht: 0.0.0.0:0
  accounts: {"nats://10.0.0.1:4222": {user: reader, password: env:READER}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from gateway.configuration.section import Seconds, Section
from regional.engines.address import EngineAddress, secret
from regional.engines.opening import DHT, READABLE
from regional.engines.reading import Bounds, ServerReader, dht_reader
from regional.reader import Reader, Readers
from registry.clock import Clock
from registry.errors import ConfigError


class AccountSection(Section):
    """By which the gateway reads at a server; a right to read is all it needs. ca: whose certificate the server has."""

    user: str | None = None
    password: Annotated[str, Field(pattern=r"^(file|env):.")] | None = None
    ca: Path | None = None


class ReadingSection(Section):
    """What is read of networks that do not answer themselves: at most so many at a time, of so many packets in all.

    idle: how long one is kept that nobody asks. accounts: by the servers as the networks' endpoints name them.
    dht: where its own nodes of DHTs listen; at an address of the loopback they reach nobody beyond it.
    """

    networks: Annotated[int, Field(ge=1, le=10_000)] = 64
    packets: Annotated[int, Field(ge=1)] = 1_000_000
    idle: Seconds = 600.0
    accounts: Mapping[str, AccountSection] = {}
    dht: Annotated[str, Field(pattern=r"^[0-9.]+:[0-9]{1,5}$")] = "127.0.0.1:0"

    @field_validator("accounts")
    @classmethod
    def _of_servers(cls, accounts: Mapping[str, AccountSection]) -> Mapping[str, AccountSection]:
        for at in accounts:
            try:
                read = EngineAddress.parse(at, "x")
            except ConfigError as error:
                raise ValueError(error.detail) from None
            if at != read.at:
                raise ValueError(f"{at!r:.100} is an account at {read.at}; name the servers so")
        return accounts

    def reader(self, served: Reader, here: Path, clock: Clock) -> Reader:
        """Who asks, nothing opened yet but `served`, which asks networks with a service of their own.

        Files are taken from `here`. Raises ConfigError where a secret is missing.
        """
        known = {
            at: {
                "user": each.user,
                "password": None if each.password is None else secret(each.password, here),
                "ca": None if each.ca is None else here / each.ca,
            }
            for at, each in self.accounts.items()
        }

        def account(address: EngineAddress) -> EngineAddress:
            return replace(address, **known.get(address.at, {}))  # type: ignore[arg-type]

        def kept() -> Reader:
            return ServerReader(Bounds(self.networks, self.packets, self.idle), account, clock)

        def in_dht() -> Reader:
            return dht_reader(Bounds(self.networks, self.packets, self.idle), clock, self.dht)

        def at_hand() -> Reader:
            return served

        return Readers({"http": at_hand, "https": at_hand, **dict.fromkeys(READABLE, kept), DHT: in_dht})
