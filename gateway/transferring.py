"""Who may take the registry's zones: the part of `federation.yaml` that speaks of keys and secondaries."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from registry.errors import ConfigError
from registry.notify import Secondary
from registry.tsig import TsigKey

Path_ = tuple[str | int, ...]

SECRET_OCTETS = 32


def _place(text: object) -> str:
    if not isinstance(text, str) or not text.startswith(("file:", "env:")) or text.endswith(":"):
        raise ValueError("a secret does not stand in this file; file:PATH or env:NAME says where it is")
    return text


def _host_port(text: object) -> str:
    host, separator, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) <= 65535:
        raise ValueError(f"{text!r} is not host:port, as in 127.0.0.1:5302")
    return str(text)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeySection(_Section):
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


class SecondarySection(_Section):
    """A server that is told of changes (NOTIFY), by the key that it also transfers by."""

    notify: Annotated[str, BeforeValidator(_host_port)]
    key: str

    def secondary(self, name: str, keys: Mapping[str, TsigKey]) -> Secondary:
        host, _, port = self.notify.rpartition(":")
        return Secondary(name, host.strip("[]"), int(port), keys[self.key])


def unknown_keys(
    keys: Mapping[str, KeySection], secondaries: Mapping[str, SecondarySection]
) -> Iterator[tuple[Path_, str]]:
    """Secondaries whose key is not among the keys, as (path in the file, what is wrong)."""
    for name, section in secondaries.items():
        if section.key not in keys:
            known = ", ".join(keys) or "none yet"
            yield ("registry", "secondaries", name, "key"), f"{section.key!r} is not among registry.keys: {known}"


def make_secret(path: Path) -> None:
    """Write a new secret to `path` (mode 0600), in base64. Never overwrites."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(base64.b64encode(secrets.token_bytes(SECRET_OCTETS)).decode() + "\n", "ascii")
