"""What the networks of one process stand on: their engines by place, their keys, the registry that they tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from gateway.configuration.config import FederationConfig, NetworkConfig
from gateway.configuration.keeping import EMBEDDED, EngineSection
from regional.advertiser import Advertiser
from regional.engine import Engine
from regional.engines.address import EngineAddress
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.engines.mirror import Home
from regional.engines.opening import DHT, engine_at, published_at
from regional.network import Network
from regional.releasing.aggregates import AggregateNetwork
from regional.releasing.ledger import Ledger
from regional.releasing.lifetable import LifeTables
from regional.releasing.publication import Publication
from regional.releasing.withdrawals import Withdrawals
from regional.shares.moving import MovableEngine
from regional.shares.whereabouts import Place
from regional.tabulator import Tabulator
from registry.clock import Clock
from registry.errors import ConfigError
from registry.http.client import RegistryClient
from registry.keys import SigningKey
from registry.publishing.publisher import PublisherTimes


def place_of(section: EngineSection) -> Place:
    """An `engine` of federation.yaml as it travels and is noted."""
    return section.model_dump(mode="json", exclude_none=True)


class EnginePlaces:
    """Where the packets of `member`, a network of federation.yaml or a share of it, can be. key: the network's."""

    def __init__(
        self,
        config: FederationConfig,
        network: NetworkConfig,
        member: str,
        key: SigningKey,
        writer: Writer,
        clock: Clock,
    ) -> None:
        self._configured = place_of(network.engine)
        self._config = config
        self._history = network.history
        self._d = config.schemas()[network.domain].dimension
        self._home = Home(network.domain, config.schemas()[network.domain].space[:8], network.name)
        self._member = member
        self._key = key
        self._writer = writer
        self._clock = clock

    def engine(self, place: Place) -> Engine:
        """What keeps them there, not open yet. Raises ConfigError."""
        address = self._address(place)
        path = self._config.data_dir / "networks" / self._member
        embedded = EmbeddedEngine(self._home.network, self._d, path, self._writer, history=self._history)
        if dict(place) != self._configured:
            self._check_moved(place)
        if address is None:
            return embedded
        if address.scheme != DHT:
            return engine_at(address, self._home, self._d)
        return published_at(address, self._home, self._d, embedded, self._key, self._clock)

    def _check_moved(self, place: Place) -> None:
        """Raise ConfigError for a place that is not the configured one, where either of them is a DHT."""
        for each in (place, self._configured):
            if section_of(each).kind == DHT:
                raise ConfigError(
                    f"a network in a DHT is neither moved nor split: {section_of(each).at} tells of what "
                    f"{self._home.network} keeps in its own store, as `embedded` does; write the one or the other "
                    "under `engine:` and start it anew, then move it from `embedded`"
                )

    def name(self, place: Place) -> str:
        """The place in words. Raises ConfigError."""
        address = self._address(place)
        return EMBEDDED if address is None else address.where

    def _address(self, place: Place) -> EngineAddress | None:
        return section_of(place).address(self._member, self._config.here)


class NetworkGround:
    """Of one network of federation.yaml. clock: what a split waits by."""

    def __init__(
        self,
        config: FederationConfig,
        network: NetworkConfig,
        writer: Writer,
        registry: RegistryClient,
        clock: Clock,
        waiting: Clock,
    ) -> None:
        self._config = config
        self._network = network
        self._writer = writer
        self._registry = registry
        self._clock = clock
        self._schema = config.schemas()[network.domain]
        self.key = SigningKey.from_file(config.data_dir / "keys" / network.name)
        self.clock = waiting
        ttl, times = config.registry.ttl, PublisherTimes()
        self.overlap_s = ttl.apex + ttl.cell + times.stale_s + times.margin_s

    def home(self) -> tuple[Network, MovableEngine]:
        """The network itself, not open yet."""
        name, domain, schema = self._network.name, self._network.domain, self._schema
        engine = self._engine(name, place_of(self._network.engine))
        least = self._config.min_cohort(domain)
        # Neither the ledger of atoms nor the log of withdrawals lies with the packets: a backup of these must not hold
        # the others.
        withdrawals = Withdrawals(self._config.data_dir / "withdrawn" / name)
        if schema.release == "packets":
            answers = self._network.serve == "network"
            made = Network(name, domain, schema, engine, least, self._clock, answers=answers, withdrawals=withdrawals)
            return made, engine
        ledger, tables = Ledger(self._config.data_dir / "atoms" / name), [LifeTables(schema)]
        publication = Publication(name, domain, schema, least, ledger, withdrawals, self._clock, tables)
        return AggregateNetwork(name, domain, schema, engine, least, self._clock, publication, withdrawals), engine

    def share(self, name: str, place: Place) -> tuple[Network, MovableEngine]:
        """A share of the network, not open yet."""
        engine = self._engine(name, place)
        home, domain = self._network.name, self._network.domain
        least = self._config.min_cohort(domain)
        return Network(name, domain, self._schema, engine, least, self._clock, home=home), engine

    def _engine(self, name: str, place: Place) -> MovableEngine:
        places = EnginePlaces(self._config, self._network, name, self.key, self._writer, self._clock)
        return MovableEngine(place, places)

    def beside(self, place: Place, name: str) -> Place:
        """Where a share's packets are to be: on the same server, under the share's name."""
        section = section_of(place)
        if section.at == EMBEDDED:
            return {"at": EMBEDDED}
        address = EngineAddress.parse(section.at, self._network.name)
        options = section.at.partition("?")[2]
        at = replace(address, name=name).where + (f"?{options}" if options else "")
        return {**place, "at": at}

    async def advertise(self, network: Network) -> None:
        """Keep a network covered, for ever."""
        await Advertiser(network, self._registry, self.key, self._clock, lease_s=self._config.registry.lease).run()

    async def tabulate(self, network: Network) -> None:
        """Keep the table of a network's moments, for ever."""
        await Tabulator(network, self.key, self._clock).run()


def section_of(place: Mapping[str, Any]) -> EngineSection:
    """Raises ConfigError."""
    try:
        return EngineSection.model_validate(dict(place))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"engine: {first['msg'].removeprefix('Value error, ')}") from None
