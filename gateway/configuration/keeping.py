"""Where a network keeps its packets: the `engine` of `federation.yaml`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator

from gateway.configuration.section import Section
from regional.engines.address import EngineAddress, secret
from registry.errors import ConfigError

EMBEDDED: Final = "embedded"
MAX_HISTORY: Final = 64  # packets of a node; more than a bucket of NATS keeps are wanted of no engine
_KEEPS_HISTORY: Final = "nats"


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

    def address(self, network: str, here: Path) -> EngineAddress | None:
        """Where its server is, files taken from `here`; None for the embedded one. Raises ConfigError."""
        if self.at == EMBEDDED:
            return None
        return replace(
            EngineAddress.parse(self.at, network),
            user=self.user,
            password=None if self.password is None else secret(self.password, here),
            ca=None if self.ca is None else here / self.ca,
        )

    def with_history(self, history: int) -> EngineSection:
        """The engine that keeps so many packets of a node. Raises ConfigError where it keeps the current one alone."""
        if history == 1 or self.at == EMBEDDED:
            return self
        if self.kind != _KEEPS_HISTORY:
            raise ConfigError(f"history is {history}; engine {self.kind} keeps the current packet alone (history: 1)")
        if "history=" in self.at:
            raise ConfigError("history stands in the engine's address too; name it once")
        return self.model_copy(update={"at": f"{self.at}{'&' if '?' in self.at else '?'}history={history}"})

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
