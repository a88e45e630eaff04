"""`federation.yaml`: the whole federation in one file (PROTOCOL, "federation.yaml").

A network whose name carries `{column}` stands for many: `each` lists the values of that column, one network
per value, and each keeps the rows of `data` that have it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from gateway.configuration import transferring
from gateway.configuration.carrying import ResolverSection
from gateway.configuration.hierarchy import (
    DelegationSection,
    Fault,
    ParentSection,
    SubtreeSection,
    cuts,
    faults,
    served,
)
from gateway.configuration.keeping import EMBEDDED, MAX_HISTORY, EngineSection
from gateway.configuration.reading import ReadingSection
from gateway.configuration.section import NAME, Address, Origin, PublicKey, Seconds, Section, Ttl
from gateway.configuration.transferring import KeySection, SecondarySection, SoaSection
from regional.engines.address import EngineAddress
from regional.engines.opening import DHT, READABLE
from regional.reader import Reader
from registry.clock import Clock
from registry.dns.tsig import TsigKey
from registry.errors import ConfigError
from registry.likeness.disclosure import check_disclosure
from registry.likeness.schema import Schema
from registry.publishing.coverage import DomainName, Name
from registry.publishing.endpoint import check_endpoints
from registry.resolving.anchor import Anchors
from registry.resolving.source import Source
from registry.serving.limiter import RATE
from registry.units import size
from registry.yamltext import YamlText, read_yaml, validate
from registry.zones.cut import Cut

Bytes = Annotated[int, BeforeValidator(size), Field(gt=0)]
Value = str | int | float | None


def _ip(text: object) -> str:
    return str(ip_address(str(text)))


class TtlSection(Section):
    """Times to live of the zone's records."""

    apex: Ttl = 10
    cell: Ttl = 60
    endpoint: Ttl = 30
    negative: Ttl = 10


class RegistrySection(Section):
    dns: Address
    http: Address
    origin: Origin = "kindred.internal."
    zone: DomainName | None = None
    delegations: Mapping[DomainName, DelegationSection] = {}
    subtrees: Mapping[Name, SubtreeSection] = {}
    parents: Mapping[DomainName, ParentSection] = {}
    ttl: TtlSection = TtlSection()
    soa: SoaSection = SoaSection()
    coalesce: Seconds = 0.25
    keep: Seconds | None = None
    lease: Seconds = 120.0
    udp_rate: Annotated[float, Field(gt=0)] = RATE
    keys: Mapping[Name, KeySection] = {}
    secondaries: Mapping[Name, SecondarySection] = {}
    ds: Path | None = None
    servers: Mapping[Name, Annotated[list[Annotated[str, BeforeValidator(_ip)]], Field(min_length=1)]] = {}

    @property
    def top(self) -> str:
        """The registry's topmost zone."""
        return f"{self.zone}.{self.origin}" if self.zone else self.origin


class DomainSection(Section):
    schema_: Annotated[Path, Field(alias="schema")]
    release: Literal["packets", "aggregates"] | None = None
    min_cohort: Annotated[int, Field(ge=1)] | None = None


class HashSplit(Section):
    """Rows are spread over `parts` networks by a hash of `column`."""

    column: str
    parts: Annotated[int, Field(ge=1, le=10_000)]


class NetworkSection(Section):
    """serve: who answers gateways' questions, the network itself, or its engine, which they then read themselves."""

    domain: DomainName
    engine: EngineSection = EngineSection(at=EMBEDDED)
    serve: Literal["network", "engine"] = "network"
    listen: Address
    process: str | None = None
    key: PublicKey | None = None
    data: Path | None = None
    history: Annotated[int, Field(ge=1, le=MAX_HISTORY)] = 1
    where: Mapping[str, Value | list[Value]] = {}
    each: Mapping[str, list[Value] | HashSplit] = {}

    @model_validator(mode="after")
    def _can_serve(self) -> NetworkSection:
        if self.serve == "engine" and self.engine.kind not in READABLE:
            known = ", ".join(f"{scheme}:" for scheme in READABLE)
            raise ValueError(
                f"gateways cannot read {self.engine.kind} themselves; they can {known}; or leave serve out"
            )
        return self


class GatewaySection(Section):
    listen: Address
    resolver: ResolverSection = ResolverSection()
    reading: ReadingSection = ReadingSection()
    deadline: Seconds = 1.0
    cache: Annotated[Bytes, Field(ge=1024**2)] = 256 * 1024**2
    workers: Annotated[int, Field(ge=1, le=256)] = 1


class _File(Section):
    version: Literal[1]
    data_dir: Path = Path(".kindred")
    registry: RegistrySection
    domains: Annotated[dict[DomainName, DomainSection], Field(min_length=1)]
    networks: Mapping[str, NetworkSection] = {}
    gateway: GatewaySection


class NetworkConfig(Section):
    """One network after `each` has been spelled out."""

    name: str
    domain: str
    engine: EngineSection
    serve: Literal["network", "engine"]
    listen: Address
    process: str
    key: str | None
    data: Path | None
    history: int
    where: Mapping[str, Any]

    @property
    def endpoint(self) -> str:
        """Where the network's service answers."""
        return f"http://{self.listen}/{self.name}"

    @property
    def asked_at(self) -> str:
        """Where gateways ask: the network's service, or its engine."""
        return self.endpoint if self.serve == "network" else EngineAddress.parse(self.engine.at, self.name).endpoint

    def asked_by(self, key: bytes) -> str:
        """The same, with the network's public key where that is needed to read."""
        if self.serve == "network" or self.engine.kind != DHT:
            return self.asked_at
        return f"{EngineAddress.parse(self.engine.at, self.name).where}?key={key.hex()}"


class FederationConfig:
    """The checked file; paths in it are taken from where it stands."""

    def __init__(self, text: YamlText) -> None:
        parsed = validate(_File, text, ConfigError, _check)
        self.file = text.file
        self.registry = parsed.registry
        self.domains = parsed.domains
        self.gateway = parsed.gateway
        self.here = Path(text.file).parent
        self.data_dir = self.here / parsed.data_dir
        self.networks: dict[str, NetworkConfig] = {}
        self._listening: dict[str, Address] = {}  # by process
        self._listeners: dict[str, str] = {}  # processes by where they listen
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
        schemas = {name: self._schema(name, section) for name, section in self.domains.items()}
        for each in self.networks.values():
            check_endpoints(each.name, each.domain, schemas[each.domain].release, (each.asked_at,))
        return schemas

    def _schema(self, domain: str, section: DomainSection) -> Schema:
        """The schema file, with what the domain's section says otherwise."""
        schema = Schema.from_yaml(self.here / section.schema_)
        if section.release == "packets" and schema.release == "aggregates":
            raise ConfigError(f"{self.file}: domains.{domain}.release: the schema releases aggregates, and no packets")
        release = section.release or schema.release
        try:
            check_disclosure(domain, release, section.min_cohort or schema.min_cohort)
        except ConfigError as error:
            raise ConfigError(f"{self.file}: domains.{error.detail}") from None
        return replace(schema, release=release)

    def keys(self) -> dict[str, TsigKey]:
        """Who may transfer the registry's zones. Raises ConfigError where a secret cannot be read."""
        return {name: self._key(name) for name in self.registry.keys}

    def _key(self, name: str) -> TsigKey:
        try:
            return self.registry.keys[name].key(name, self.here)
        except ConfigError as error:
            raise ConfigError(f"{self.file}: {error.detail}") from None

    def source(self, clock: Clock) -> Source:
        """Who carries the registry's records to the gateway, started. Raises ConfigError."""
        resolver = self.gateway.resolver
        key = self._key(resolver.key) if resolver.key is not None else None
        anchors = None if resolver.anchor is None else Anchors.from_file(self.here / resolver.anchor[len("file:") :])
        zones = [self.registry.origin, *(f"{domain}.{self.registry.origin}" for domain in self.domains)]
        return resolver.source(self.registry.origin, zones, self.registry.dns, key, anchors, clock)

    def reader(self, served: Reader, clock: Clock) -> Reader:
        """Who asks the networks for the gateway; `served` those with a service of their own. Raises ConfigError."""
        try:
            return self.gateway.reading.reader(served, self.here, clock)
        except ConfigError as error:
            raise ConfigError(f"{self.file}: gateway.reading: {error.detail}") from None

    @property
    def ds_file(self) -> Path | None:
        """Where the DS records of signed domains are kept."""
        return None if self.registry.ds is None else self.here / self.registry.ds

    def secret_files(self) -> list[Path]:
        """Where those of the keys are kept that are kept in files."""
        return [path for each in self.registry.keys.values() if (path := each.file(self.here)) is not None]

    def schemas(self) -> dict[str, Schema]:
        """The schema of every domain. Raises SchemaError."""
        return self._schemas

    def min_cohort(self, domain: str) -> int:
        """Packets per region at least: the domain's own rule, else the schema's."""
        return self.domains[domain].min_cohort or self._schemas[domain].min_cohort

    @property
    def served(self) -> list[str]:
        """The domains that this file's registry serves itself."""
        return served(self.registry, list(self.domains))

    def cuts(self) -> list[Cut]:
        """The names that this file's registry delegates."""
        return cuts(self.registry)

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
        if network.domain not in self.served:
            raise ConfigError(f"{place}.domain: {network.domain!r} is not served by this registry, but by another")
        listen = self._listening.setdefault(network.process, network.listen)
        if listen != network.listen:
            raise ConfigError(f"{place}.listen: process {network.process!r} listens on {listen} already")
        owner = self._listeners.setdefault(str(listen), network.process) if listen.port else network.process
        if owner != network.process:
            raise ConfigError(f"{place}.listen: {listen} is taken by process {owner!r}; choose another port")
        self.networks[network.name] = network

    def _spell_out(self, pattern: str, section: NetworkSection, place: str) -> Iterator[NetworkConfig]:
        columns = list(section.each)
        if set(re.findall(r"{([^}]*)}", pattern)) != set(columns):
            raise ConfigError(f"{place}: the name must carry {{column}} for each column of `each`, and no other")
        try:
            engine = section.engine.with_history(section.history)
        except ConfigError as error:
            raise ConfigError(f"{place}.history: {error.detail}") from None
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
                engine=engine,
                serve=section.serve,
                listen=section.listen,
                process=section.process or name,
                key=section.key,
                data=self.here / section.data if section.data is not None else None,
                history=section.history,
                where=where,
            )


def _check(parsed: _File) -> list[Fault]:
    """What does not fit together in a file of the right form."""
    return [
        *faults(parsed.registry, list(parsed.domains)),
        *transferring.faults(parsed.registry, list(parsed.domains)),
        *_unknown_key(parsed),
    ]


def _label(value: Value) -> str:
    """A DNS label for a column's value; nothing becomes `unknown`."""
    if value is None:
        return "unknown"
    text = str(value).removesuffix(".0").lower()
    return re.sub(r"[^a-z0-9]+", "-", text.replace("+", " plus")).strip("-") or "unknown"


def _unknown_key(parsed: _File) -> list[Fault]:
    name = parsed.gateway.resolver.key
    if name is None or name in parsed.registry.keys:
        return []
    known = ", ".join(parsed.registry.keys) or "none yet"
    return [(("gateway", "resolver", "key"), f"{name!r} is not among registry.keys: {known}")]
