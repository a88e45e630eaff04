"""Who may take the registry's zones: the part of `federation.yaml` that speaks of keys and secondaries."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import BeforeValidator

from gateway.configuration.section import Address, Section, Ttl
from registry.dns.tsig import TsigKey
from registry.errors import ConfigError
from registry.serving.notify import Secondary
from registry.zones.catalog import LABEL

Fault = tuple[tuple[str | int, ...], str]

SECRET_OCTETS = 32


def _place(text: object) -> str:
    if not isinstance(text, str) or not text.startswith(("file:", "env:")) or text.endswith(":"):
        raise ValueError("a secret does not stand in this file; file:PATH or env:NAME says where it is")
    return text


class KeySection(Section):
    """A TSIG key (RFC 8945): whoever holds it may transfer the registry's zones."""

    secret: Annotated[str, BeforeValidator(_place)]
    algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"

    def file(self, here: Path) -> Path | None:
        """Where the secret is kept, if it is kept in a file."""
        kind, _, rest = self.secret.partition(":")
        return here / rest if kind == "file" else None

    def key(self, name: str, here: Path) -> TsigKey:
        """Read the secret. here: where paths are taken from. Raises ConfigError, which does not show it."""
        path = self.file(here)
        if path is None:
            variable = self.secret.removeprefix("env:")
            text = os.environ.get(variable)
            if text is None:
                raise ConfigError(f"registry.keys.{name}: the environment has no {variable}; put the secret there")
        else:
            try:
                text = path.read_text("ascii")
            except (OSError, ValueError):
                raise ConfigError(
                    f"registry.keys.{name}: no readable secret in {path}; `openssl rand -base64 32` makes one"
                ) from None
        return TsigKey.from_base64(f"{name}.", text, self.algorithm)


class SecondarySection(Section):
    """A server that is told of changes (NOTIFY), by the key that it also transfers by."""

    notify: Address
    key: str

    def secondary(self, name: str, keys: Mapping[str, TsigKey]) -> Secondary:
        """With its key. keys: by name, as far as `faults` found nothing."""
        return Secondary(name, self.notify.host, self.notify.port, keys[self.key])


class SoaSection(Section):
    """How often secondaries look for what they were not told, and how long they serve without the registry."""

    refresh: Ttl = 30
    retry: Ttl = 10
    expire: Ttl = 86_400


class Transferring(Protocol):
    """What the registry's section has of this. top: its topmost zone, with the final dot."""

    @property
    def origin(self) -> str: ...
    @property
    def top(self) -> str: ...
    @property
    def keys(self) -> Mapping[str, KeySection]: ...
    @property
    def secondaries(self) -> Mapping[str, SecondarySection]: ...
    @property
    def servers(self) -> Mapping[str, Sequence[str]]: ...


def faults(registry: Transferring, domains: Sequence[str]) -> Iterator[Fault]:
    """What does not fit together, as (path in the file, what is wrong)."""
    for name, section in registry.secondaries.items():
        if section.key not in registry.keys:
            known = ", ".join(registry.keys) or "none yet"
            yield ("registry", "secondaries", name, "key"), f"{section.key!r} is not among registry.keys: {known}"
    for domain in domains:
        label = f"{domain}.{registry.origin}".removesuffix(registry.top).removesuffix(".").rpartition(".")[2]
        if label == LABEL:
            yield ("domains", domain), f"{LABEL}.{registry.top} is the catalog of zones; choose another name"
        if label in registry.servers:
            yield ("registry", "servers", label), f"the domain {domain!r} has this name too; choose another one"


def make_secret(path: Path) -> None:
    """Write a new secret to `path` (mode 0600), in base64. Never overwrites."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(base64.b64encode(secrets.token_bytes(SECRET_OCTETS)).decode() + "\n", "ascii")
