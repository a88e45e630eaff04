"""What keeps a network's packets: the part of `federation.yaml` that says which engine, and how to get in.

engine: embedded                                                    this machine's disk
engine: nats://127.0.0.1:4222/packets                               a server, mirrored in memory
engine: {at: "redis://127.0.0.1:6379", user: kindred, password: file:redis.secret}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator

from gateway.section import Section
from regional.engines.address import EngineAddress
from registry.errors import ConfigError

EMBEDDED: Final = "embedded"


class EngineSection(Section):
    """`embedded`, or a server's address; with user and password (as file: or env:) and ca where it is guarded."""

    at: str
    user: str | None = None
    password: Annotated[str, Field(pattern=r"^(file|env):.")] | None = None
    ca: Path | None = None

    @property
    def kind(self) -> str:
        """What the registry tells of it."""
        return self.at.partition(":")[0]

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        return {"at": value} if isinstance(value, str) else value

    @field_validator("at")
    @classmethod
    def _readable(cls, at: str) -> str:
        if at != EMBEDDED:
            try:
                EngineAddress.parse(at, "network")
            except ConfigError as error:
                raise ValueError(error.detail) from None
        return at
