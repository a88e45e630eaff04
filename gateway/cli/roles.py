"""`kindred registry`, `kindred network`, `kindred gateway`: one role, in this process, until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from aiohttp import web

from gateway.cli.commands import Commands
from gateway.cli.exits import Exit
from gateway.config import Address, FederationConfig, NetworkConfig
from gateway.federation import Federation
from gateway.service import gateway_app
from regional.advertiser import Advertiser
from regional.engines.embedded import EmbeddedEngine
from regional.engines.writer import Writer
from regional.network import Network
from regional.service import network_app
from registry.client import RegistryClient
from registry.clock import SystemClock
from registry.enrolment import DomainEntry, Enrolment, Member
from registry.errors import ConfigError, UnknownName
from registry.httpserver import HttpServer
from registry.journal import Journal
from registry.keys import SigningKey, public_from_text
from registry.nameserver import NameServer
from registry.publisher import Publisher, PublisherTimes
from registry.service import registry_app
from registry.zone import Ttls

READY = "ready"


def add_commands(commands: Commands, shared: argparse.ArgumentParser) -> None:
    for name, run, text in (
        ("registry", registry, "run the registry: its name server and the service that takes coverages"),
        ("network", network, "run networks: all of one process, or one by name"),
        ("gateway", gateway, "run the gateway"),
    ):
        command = commands.add_parser(name, parents=[shared], help=text, description=text)
        command.set_defaults(run=run)
        if name == "network":
            chosen = command.add_mutually_exclusive_group(required=True)
            chosen.add_argument("name", nargs="?", help="one network of federation.yaml")
            chosen.add_argument("--process", help="all networks with this `process`")


async def registry(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_registry(config))
        return await _until_signal()


async def network(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_networks(config, _chosen(config, options)))
        return await _until_signal()


async def gateway(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    async with Federation.open(config) as federation, serving(gateway_app(federation), config.gateway.listen):
        return await _until_signal()


@asynccontextmanager
async def running_registry(config: FederationConfig) -> AsyncIterator[Publisher]:
    """The registry of `config`: journal, publisher, name server, HTTP service."""
    section = config.registry
    clock = SystemClock()
    domains = [
        DomainEntry(
            name=name,
            schema=schema,
            schema_url=f"http://{section.http}/v1/domains/{name}/schema",
            min_cohort=config.domains[name].min_cohort,
        )
        for name, schema in config.schemas().items()
    ]
    ttl = section.ttl
    ttls = Ttls(
        apex=round(ttl.apex), cell=round(ttl.cell), endpoint=round(ttl.endpoint), soa_minimum=round(ttl.negative)
    )
    journal = Journal(config.data_dir / "registry")
    try:
        members = [_member(config, each) for each in config.networks.values()]
        enrolment = Enrolment(domains, members, journal, clock, section.origin)
        times = PublisherTimes(coalesce_s=section.coalesce)
        publisher = Publisher(enrolment, journal, clock, ttls, times, addresses=(section.dns.host,))
        server = NameServer(publisher.zones, section.dns.host, section.dns.port)
        await server.start()
        try:
            async with serving(registry_app(enrolment, publisher, clock), section.http):
                yield publisher
        finally:
            await server.close()
    finally:
        journal.close()


@asynccontextmanager
async def running_networks(config: FederationConfig, chosen: Sequence[NetworkConfig]) -> AsyncIterator[None]:
    """These networks in this process: their stores, their service, and an advertiser for each."""
    clock = SystemClock()
    writer = Writer()
    networks: dict[str, Network] = {}
    advertisers: list[asyncio.Task[None]] = []
    try:
        for each in chosen:
            schema = config.schemas()[each.domain]
            path = config.data_dir / "networks" / each.name
            engine = EmbeddedEngine(each.name, schema.dimension, path, writer)
            network = Network(each.name, each.domain, schema, engine, config.min_cohort(each.domain), clock)
            await network.open()
            networks[each.name] = network
        async with serving(network_app(networks), chosen[0].listen), aiohttp.ClientSession() as session:
            registry = RegistryClient(session, f"http://{config.registry.http}")
            for name, network in networks.items():
                key = SigningKey.from_file(config.data_dir / "keys" / name)
                advertiser = Advertiser(network, registry, key, clock, lease_s=config.registry.lease)
                advertisers.append(asyncio.create_task(advertiser.run()))
            try:
                yield
            finally:
                for task in advertisers:
                    task.cancel()
                await asyncio.gather(*advertisers, return_exceptions=True)
    finally:
        for network in networks.values():
            await network.close()
        writer.close()


@asynccontextmanager
async def serving(app: web.Application, listen: Address) -> AsyncIterator[HttpServer]:
    """`app` answers at `listen` for as long as the context lasts. Raises ConfigError where the port is taken."""
    server = HttpServer(app, listen.host, listen.port)
    try:
        await server.start()
    except OSError as error:
        raise ConfigError(f"cannot listen on {listen}: {error.strerror or error}; choose another port") from None
    try:
        yield server
    finally:
        await server.close()


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


def _member(config: FederationConfig, network: NetworkConfig) -> Member:
    """The operator's word on a network: its key is in federation.yaml, or in data_dir/keys/NAME.pub."""
    text = network.key
    if text is None:
        path = config.data_dir / "keys" / f"{network.name}.pub"
        try:
            text = path.read_text("ascii")
        except OSError:
            raise ConfigError(
                f"{config.file}: networks.{network.name}: no public key; start it once with `kindred up`, "
                f"or give `key:`, or put it in {path}"
            ) from None
    key = public_from_text(text)
    return Member(network.name, network.domain, key, (network.endpoint,), network.engine)


async def _until_signal() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    await stop.wait()
    return Exit.DONE
