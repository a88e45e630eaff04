"""`federation.yaml`: the whole federation in one file (PROTOCOL, "federation.yaml").

A network whose name carries `{column}` stands for many: `each` lists the values of that column, one network
per value, and each keeps the rows of `data` that have it.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from regional.engines.address import EngineAddress, secret
from registry.coverage import DomainName
from registry.errors import ConfigError
from registry.schema import Schema
from registry.units import duration, size
from registry.yamltext import YamlText, read_yaml, validate

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _whole_seconds(text: object) -> int:
    seconds = duration(text)
    if not math.isfinite(seconds) or abs(seconds - round(seconds)) > 1e-6:
        raise ValueError(f"{text!r} is not whole seconds, which a time to live in DNS is; 1s at least")
    return round(seconds)


Seconds = Annotated[float, BeforeValidator(duration), Field(gt=0)]
Ttl = Annotated[int, BeforeValidator(_whole_seconds), Field(ge=1, le=2**31 - 1)]  # RFC 2181 section 8
Bytes = Annotated[int, BeforeValidator(size), Field(gt=0)]
Value = str | int | float | None


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Address(_Section):
    """`host:port`, as in 127.0.0.1:5300 or [::1]:5300; port 0 = any free one."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]

    @model_validator(mode="before")
    @classmethod
    def _split(cls, text: object) -> object:
        if not isinstance(text, str):
            return text
        host, separator, port = text.rpartition(":")
        if not separator or not host or not port.isdecimal():
            raise ValueError(f"{text!r} is not host:port, as in 127.0.0.1:5300")
        return {"host": host.strip("[]"), "port": int(port)}

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class TtlSection(_Section):
    """Times to live of the zone's records."""

    apex: Ttl = 10
    cell: Ttl = 60
    endpoint: Ttl = 30
    negative: Ttl = 10


class RegistrySection(_Section):
    dns: Address
    http: Address
    origin: str = "kindred.internal."
    ttl: TtlSection = TtlSection()
    coalesce: Seconds = 0.25
    lease: Seconds = 120.0

    @field_validator("origin")
    @classmethod
    def _absolute(cls, origin: str) -> str:
        labels = origin.removesuffix(".").split(".")
        if not origin.endswith(".") or not all(NAME.fullmatch(label) for label in labels):
            raise ValueError(f"{origin!r} is not an absolute lower-case DNS name with its final dot")
        return origin


class DomainSection(_Section):
    schema_: Annotated[Path, Field(alias="schema")]
    release: Literal["packets"] | None = None
    min_cohort: Annotated[int, Field(ge=1)] | None = None


class HashSplit(_Section):
    """Rows are spread over `parts` networks by a hash of `column`."""

    column: str
    parts: Annotated[int, Field(ge=1, le=10_000)]


EMBEDDED: Final = "embedded"


class EngineSection(_Section):
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


class NetworkSection(_Section):
    domain: DomainName
    engine: EngineSection = EngineSection(at=EMBEDDED)
    listen: Address
    process: str | None = None
    key: Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")] | None = None
    data: Path | None = None
    where: Mapping[str, Value | list[Value]] = {}
    each: Mapping[str, list[Value] | HashSplit] = {}


class GatewaySection(_Section):
    listen: Address
    deadline: Seconds = 1.0
    cache: Annotated[Bytes, Field(ge=1024**2)] = 256 * 1024**2
    workers: Annotated[int, Field(ge=1, le=256)] = 1


class _File(_Section):
    version: Literal[1]
    data_dir: Path = Path(".kindred")
    registry: RegistrySection
    domains: Annotated[dict[DomainName, DomainSection], Field(min_length=1)]
    networks: dict[str, NetworkSection] = {}
    gateway: GatewaySection


class NetworkConfig(_Section):
    """One network after `each` has been spelled out."""

    name: str
    domain: str
    engine: EngineSection
    listen: Address
    process: str
    key: str | None
    data: Path | None
    where: Mapping[str, Any]

    def address(self, here: Path) -> EngineAddress | None:
        """Where its engine's server is, files taken from `here`; None for the embedded one. Raises ConfigError."""
        engine = self.engine
        if engine.at == EMBEDDED:
            return None
        return replace(
            EngineAddress.parse(engine.at, self.name),
            user=engine.user,
            password=None if engine.password is None else secret(engine.password, here),
            ca=None if engine.ca is None else here / engine.ca,
        )

    @property
    def endpoint(self) -> str:
        """Where the network's service answers."""
        return f"http://{self.listen}/{self.name}"


class FederationConfig:
    """The checked file; paths in it are taken from where it stands."""

    def __init__(self, text: YamlText) -> None:
        parsed = validate(_File, text, ConfigError)
        self.file = text.file
        self.registry = parsed.registry
        self.domains = parsed.domains
        self.gateway = parsed.gateway
        self.here = Path(text.file).parent
        self.data_dir = self.here / parsed.data_dir
        self.networks: dict[str, NetworkConfig] = {}
        for pattern, section in parsed.networks.items():
            place = f"{text.file}:{text.line(('networks', pattern))}: networks.{pattern}"
            for network in self._spell_out(pattern, section, place):
                self._admit(network, place)

    @classmethod
    def from_yaml(cls, path: Path) -> FederationConfig:
        """Read and check the whole file. Raises ConfigError with every problem: file, line, path, what is right."""
        return cls(read_yaml(path))

    @cached_property
    def _schemas(self) -> dict[str, Schema]:
        return {name: Schema.from_yaml(self.here / section.schema_) for name, section in self.domains.items()}

    def schemas(self) -> dict[str, Schema]:
        """The schema of every domain. Raises SchemaError."""
        return self._schemas

    def min_cohort(self, domain: str) -> int:
        """Packets per region at least: the domain's own rule, else the schema's."""
        return self.domains[domain].min_cohort or self._schemas[domain].min_cohort

    def processes(self) -> dict[str, list[NetworkConfig]]:
        """Networks by the process that serves them."""
        groups: dict[str, list[NetworkConfig]] = {}
        for network in self.networks.values():
            groups.setdefault(network.process, []).append(network)
        return groups

    def _admit(self, network: NetworkConfig, place: str) -> None:
        if not NAME.fullmatch(network.name) or network.name == "net":
            raise ConfigError(f"{place}: {network.name!r} is not a DNS label of a-z, 0-9 and hyphens")
        if network.name in self.networks:
            raise ConfigError(f"{place}: there is already a network {network.name!r}; choose another name")
        if network.domain not in self.domains:
            raise ConfigError(f"{place}.domain: {network.domain!r} is not among domains: {', '.join(self.domains)}")
        for other in self.networks.values():
            if other.process == network.process and other.listen != network.listen:
                raise ConfigError(f"{place}.listen: process {network.process!r} listens on {other.listen} already")
            if other.process != network.process and other.listen == network.listen and network.listen.port:
                raise ConfigError(
                    f"{place}.listen: {network.listen} is taken by process {other.process!r}; choose another port"
                )
        self.networks[network.name] = network

    def _spell_out(self, pattern: str, section: NetworkSection, place: str) -> Iterator[NetworkConfig]:
        columns = list(section.each)
        if set(re.findall(r"{([^}]*)}", pattern)) != set(columns):
            raise ConfigError(f"{place}: the name must carry {{column}} for each column of `each`, and no other")
        choices: list[list[tuple[str, Any]]] = []
        for column in columns:
            values = section.each[column]
            if isinstance(values, HashSplit):
                parts = values.parts
                split = [(f"{i:02d}", {"hash": [values.column, i, parts]}) for i in range(parts)]
                choices.append([(label, where) for label, where in split])
            else:
                choices.append([(_label(value), {column: value}) for value in values])
        for choice in itertools.product(*choices):
            name = pattern
            where: dict[str, Any] = dict(section.where)
            for column, (label, condition) in zip(columns, choice, strict=True):
                name = name.replace(f"{{{column}}}", label)
                where.update(condition)
            yield NetworkConfig(
                name=name,
                domain=section.domain,
                engine=section.engine,
                listen=section.listen,
                process=section.process or name,
                key=section.key,
                data=self.here / section.data if section.data is not None else None,
                where=where,
            )


def _label(value: Value) -> str:
    """A DNS label for a column's value; nothing becomes `unknown`."""
    if value is None:
        return "unknown"
    text = str(value).removesuffix(".0").lower()
    return re.sub(r"[^a-z0-9]+", "-", text.replace("+", " plus")).strip("-") or "unknown"
