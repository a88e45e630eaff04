"""`kindred network`: networks with their stores, their service, and an advertiser for each."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from gateway.cli.running import add_attached, serving, until_signal
from gateway.config import FederationConfig, NetworkConfig
from regional.advertiser import Advertiser
from regional.aggregates import AggregateNetwork
from regional.engine import Engine
from regional.engines.embedded import EmbeddedEngine
from regional.engines.mirror import Home
from regional.engines.opening import DHT, engine_at, published_at
from regional.engines.writer import Writer
from regional.ledger import Ledger
from regional.lifetable import LifeTables
from regional.network import Network
from regional.publication import Publication
from regional.service import network_app
from regional.tabulator import Tabulator
from regional.withdrawals import Withdrawals
from registry.client import RegistryClient
from registry.clock import Clock, SystemClock
from registry.errors import UnknownName
from registry.keys import SigningKey
from registry.schema import Schema


def add_arguments(command: argparse.ArgumentParser) -> None:
    chosen = command.add_mutually_exclusive_group(required=True)
    chosen.add_argument("name", nargs="?", help="one network of federation.yaml")
    chosen.add_argument("--process", help="all networks with this `process`")
    add_attached(command)


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    async with running_networks(config, _chosen(config, options)):
        return await until_signal(options.attached)


@asynccontextmanager
async def running_networks(config: FederationConfig, chosen: Sequence[NetworkConfig]) -> AsyncIterator[None]:
    """These networks in this process: their stores, their service, and an advertiser for each."""
    clock = SystemClock()
    writer = Writer()
    networks: dict[str, Network] = {}
    tasks: list[asyncio.Task[None]] = []
    try:
        for each in chosen:
            schema = config.schemas()[each.domain]
            engine = _engine(config, each, schema, writer)
            network = _network(config, each, engine, clock)
            await network.open()
            networks[each.name] = network
        async with serving(network_app(networks), chosen[0].listen), aiohttp.ClientSession() as session:
            registry = RegistryClient(session, f"http://{config.registry.http}")
            for name, network in networks.items():
                key = SigningKey.from_file(config.data_dir / "keys" / name)
                advertiser = Advertiser(network, registry, key, clock, lease_s=config.registry.lease)
                tabulator = Tabulator(network, key, clock)
                tasks += [asyncio.create_task(advertiser.run()), asyncio.create_task(tabulator.run())]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        for network in networks.values():
            await network.close()
        writer.close()


def _network(config: FederationConfig, section: NetworkConfig, engine: Engine, clock: Clock) -> Network:
    """One network, not open yet. Where aggregates are released, with its ledger of atoms.

    Neither the ledger nor the log of withdrawals lies with the packets: a backup of these must not hold the others.
    """
    name, domain = section.name, section.domain
    schema, least = config.schemas()[domain], config.min_cohort(domain)
    withdrawals = Withdrawals(config.data_dir / "withdrawn" / name)
    if schema.release == "packets":
        answers = section.serve == "network"
        return Network(name, domain, schema, engine, least, clock, withdrawals=withdrawals, answers=answers)
    ledger = Ledger(config.data_dir / "atoms" / name)
    publication = Publication(name, domain, schema, least, ledger, withdrawals, clock, [LifeTables(schema)])
    return AggregateNetwork(name, domain, schema, engine, least, clock, publication, withdrawals)


def _engine(config: FederationConfig, network: NetworkConfig, schema: Schema, writer: Writer) -> Engine:
    """What keeps the network's packets, not open yet."""
    address = network.engine.address(network.name, config.here)
    embedded = EmbeddedEngine(network.name, schema.dimension, config.data_dir / "networks" / network.name, writer)
    if address is None:
        return embedded
    home = Home(network.domain, schema.space[:8], network.name)
    if address.scheme == DHT:
        key = SigningKey.from_file(config.data_dir / "keys" / network.name)
        return published_at(address, home, schema.dimension, embedded, key, SystemClock())
    return engine_at(address, home, schema.dimension)


def _chosen(config: FederationConfig, options: argparse.Namespace) -> list[NetworkConfig]:
    if options.process is not None:
        found = config.processes().get(options.process)
        if found is None:
            known = ", ".join(config.processes())
            raise UnknownName(f"{config.file}: no network has process {options.process!r}; there are {known}")
        return found
    if options.name not in config.networks:
        raise UnknownName(f"{config.file}: there is no network {options.name!r}")
    return [config.networks[options.name]]
