"""Where an engine's server is, and what of it is a network's: the `engine` of a network in federation.yaml."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

from registry.errors import ConfigError

PORTS: Final = {"nats": 4222, "etcd": 2379, "redis": 6379, "mqtt": 1883, "milvus": 19530, "dht": 6881}
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """`nats://127.0.0.1:4222,127.0.0.1:4223/farms?history=5`: scheme, servers (host and port), name, options.

    name: of what holds this network's packets there (a bucket, a prefix, a collection). user, password: None where
    none is needed; ca: certificates that the server's must be signed by, where the connection is to be encrypted.
    """

    scheme: str
    servers: tuple[tuple[str, int], ...]
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None

    @classmethod
    def parse(cls, url: str, network: str) -> EngineAddress:
        """Read an address; without a name, the network's own. Raises ConfigError that says what would be right."""
        right = "wanted one like nats://127.0.0.1:4222/NAME"
        # Not urlsplit: several hosts, some in brackets, are no URL to it (Python 3.11.4 and Debian's 3.11.2).
        head, _, query = url.partition("?")
        scheme, _, place = head.partition("://") if "://" in head else ("", "", head)
        hosts, _, path = place.partition("/")
        if scheme not in PORTS:
            raise ConfigError(f"engine {url!r:.100}: no engine {scheme!r:.20}; there are embedded, {_SCHEMES}")
        if "@" in hosts:
            raise ConfigError("engine: credentials stand beside the address, as user and password, not in it")
        servers = []
        for text in hosts.split(","):
            match = _HOST.fullmatch(text)
            port = int(match["port"] or PORTS[scheme]) if match else 0
            if match is None or not 0 < port < 1 << 16:
                raise ConfigError(f"engine {url!r:.100}: {text!r:.60} is not host:port; {right}")
            servers.append((match["host"].strip("[]"), port))
        name = path or network
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"engine {url!r:.100}: the name {name!r:.70} has to be 1 to 64 letters, digits and hyphens: other "
                "signs part names from each other on some server"
            )
        return cls(scheme, tuple(servers), name, dict(parse_qsl(query, keep_blank_values=True)))

    @property
    def at(self) -> str:
        """The servers: `nats://127.0.0.1:4222,127.0.0.1:4223`."""
        hosts = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.servers)
        return f"{self.scheme}://{','.join(hosts)}"

    @property
    def where(self) -> str:
        """For messages: the servers and the name."""
        return f"{self.at}/{self.name}"

    @property
    def endpoint(self) -> str:
        """What the registry tells of it; no credentials."""
        return self.where + (f"?{urlencode(self.options)}" if self.options else "")

    def number(self, option: str, default: int, most: int) -> int:
        """An option that is a whole number from 1. Raises ConfigError."""
        text = self.options.get(option, str(default))
        if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
            raise ConfigError(f"{self.where}: {option} is {text!r:.30}; it is a whole number from 1 to {most}")
        return int(text)

    def only(self, *options: str) -> None:
        """Raise ConfigError for an option that the engine does not have."""
        for option in self.options:
            if option not in options:
                known = ", ".join(options) or "none"
                raise ConfigError(f"{self.where}: there is no option {option!r:.30}; there are: {known}")


_SCHEMES: Final = ", ".join(f"{scheme}:" for scheme in PORTS)


def secret(reference: str, here: Path) -> str:
    """What `file:PATH` (from `here`) or `env:NAME` refers to, without the end of its line. Raises ConfigError."""
    kind, _, name = reference.partition(":")
    if kind == "file" and name:
        try:
            return (here / name).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the secret {reference!r:.200} cannot be read: {type(error).__name__}") from None
    if kind == "env" and name:
        if name in os.environ:
            return os.environ[name]
        raise ConfigError(f"the secret {reference!r:.200}: there is no such variable in the environment")
    raise ConfigError("a secret stands as file:PATH or env:NAME, never in the configuration itself")
