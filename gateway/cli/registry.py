"""`kindred registry`: the name server, and the service that takes coverages."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.cli.running import serving, until_signal
from gateway.config import FederationConfig, NetworkConfig
from registry.clock import SystemClock
from registry.enrolment import DomainEntry, Enrolment, Member
from registry.errors import ConfigError
from registry.journal import Journal
from registry.keys import public_from_text
from registry.nameserver import NameServer
from registry.publisher import Publisher, PublisherTimes
from registry.service import registry_app
from registry.zone import Ttls


def add_arguments(_command: argparse.ArgumentParser) -> None:
    """It has none of its own."""


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    async with running_registry(config):
        return await until_signal()


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
    ttls = Ttls(apex=ttl.apex, cell=ttl.cell, endpoint=ttl.endpoint, soa_minimum=ttl.negative)
    journal = Journal(config.data_dir / "registry")
    try:
        members = [_member(config, each) for each in config.networks.values()]
        enrolment = Enrolment(domains, members, journal, clock, section.origin)
        times = PublisherTimes(coalesce_s=section.coalesce)
        publisher = Publisher(enrolment, journal, clock, ttls, times, addresses=(section.dns.host,))
        await _first_publication(publisher)
        server = NameServer(publisher.zones, section.dns.host, section.dns.port)
        await server.start()
        try:
            async with serving(registry_app(enrolment, publisher, clock), section.http):
                yield publisher
        finally:
            await server.close()
    finally:
        journal.close()


async def _first_publication(publisher: Publisher) -> None:
    """Before it the name server would refuse what it is there for, and gateways would take that for an answer."""
    wait_s = await publisher.tick()
    while wait_s > 0:
        await asyncio.sleep(wait_s)  # the clock has to pass the last serial
        wait_s = await publisher.tick()


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
    return Member(network.name, network.domain, key, (network.endpoint,), network.engine.kind)
