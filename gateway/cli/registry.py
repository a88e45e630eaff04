"""`kindred registry`: the name server, and the service that takes coverages."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import numpy as np

from gateway.cli.running import add_attached, serving, until_signal
from gateway.config import FederationConfig, NetworkConfig
from gateway.hierarchy import ParentSection, SubtreeSection
from registry.cell import Naming
from registry.client import RegistryClient
from registry.clock import Clock, SystemClock
from registry.enrolment import DomainEntry, Enrolment, Member
from registry.errors import ConfigError
from registry.fingerprint import encode
from registry.grant import Ball, Grant
from registry.journal import Journal
from registry.keys import SigningKey, public_from_text
from registry.lease import Lease
from registry.membership import Membership
from registry.nameserver import NameServer
from registry.publisher import Publisher, PublisherTimes
from registry.service import registry_app
from registry.zone import Ttls


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_attached(command)


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    async with running_registry(config):
        return await until_signal(options.attached)


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
            parent=f"{name}.{section.parents[name].origin}" if name in section.parents else None,
        )
        for name, schema in config.schemas().items()
        if name in config.served
    ]
    ttl = section.ttl
    ttls = Ttls(apex=ttl.apex, cell=ttl.cell, endpoint=ttl.endpoint, soa_minimum=ttl.negative)
    journal = Journal(config.data_dir / "registry")
    try:
        members = [_member(config, each) for each in config.networks.values()]
        members += [_subtree(config, name, each) for name, each in section.subtrees.items()]
        enrolment = Enrolment(domains, members, journal, clock, section.origin)
        times = PublisherTimes(coalesce_s=section.coalesce)
        publisher = Publisher(
            enrolment,
            journal,
            clock,
            ttls,
            times,
            addresses=(section.dns.host,),
            zone=section.zone or "",
            delegations=config.cuts(),
        )
        await _first_publication(publisher)
        server = NameServer(publisher.zones, section.dns.host, section.dns.port)
        await server.start()
        try:
            async with aiohttp.ClientSession() as session:
                memberships = [
                    _membership(config, domain, parent, session, enrolment, publisher, clock)
                    for domain, parent in section.parents.items()
                ]
                app = registry_app(enrolment, publisher, clock, memberships=memberships)
                async with serving(app, section.http):
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
    key = _public_key(config, f"networks.{network.name}", network.name, network.key)
    return Member(network.name, network.domain, key, (network.endpoint,), network.engine)


def _subtree(config: FederationConfig, name: str, section: SubtreeSection) -> Member:
    """The operator's word on a registry that runs a part of a domain. Raises SituationError for an unusable bound."""
    key = _public_key(config, f"registry.subtrees.{name}", name, section.key)
    ball = None
    if section.within is not None:
        centre = encode(config.schemas()[section.domain], section.within.situation).astype(np.float64)
        ball = Ball(centre, section.within.radius)
    return Member(name, section.domain, key, (), "registry", Grant(f"{section.domain}.{section.origin}", ball))


def _membership(
    config: FederationConfig,
    domain: str,
    parent: ParentSection,
    session: aiohttp.ClientSession,
    enrolment: Enrolment,
    publisher: Publisher,
    clock: Clock,
) -> Membership:
    """What keeps this registry a member of its parent; its key is in data_dir/keys/NAME."""
    key = SigningKey.from_file(config.data_dir / "keys" / parent.name)
    client = RegistryClient(session, f"http://{parent.registry}")
    lease = Lease(client, domain, parent.name, key, clock, config.registry.lease)
    return Membership(parent.name, Naming(domain, config.registry.origin), enrolment, publisher, lease, clock)


def _public_key(config: FederationConfig, place: str, name: str, text: str | None) -> bytes:
    if text is None:
        path = config.data_dir / "keys" / f"{name}.pub"
        try:
            text = path.read_text("ascii")
        except OSError:
            raise ConfigError(
                f"{config.file}: {place}: no public key; start it once with `kindred up`, "
                f"or give `key:`, or put it in {path}"
            ) from None
    return public_from_text(text)
