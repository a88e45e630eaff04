"""`kindred registry`: the name server, and the service that takes coverages."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.cli.members import members, memberships
from gateway.cli.running import add_attached, serving, until_signal
from gateway.configuration.config import FederationConfig
from registry.clock import Clock, SystemClock
from registry.dns.wire import name_to_wire
from registry.publishing.enrolment import DomainEntry, Enrolment
from registry.publishing.history import History
from registry.publishing.journal import Journal
from registry.publishing.publisher import Publisher, PublisherTimes
from registry.service import registry_app
from registry.serving.limiter import Limiter
from registry.serving.nameserver import NameServer
from registry.serving.notify import Notifier
from registry.serving.primary import Primary
from registry.zones.catalog import catalog_zone
from registry.zones.edge import DsFile, Edge
from registry.zones.zone import Ttls, Zone, ZoneSet


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
    ttls = Ttls(
        apex=ttl.apex,
        cell=ttl.cell,
        endpoint=ttl.endpoint,
        soa_minimum=ttl.negative,
        soa_refresh=section.soa.refresh,
        soa_retry=section.soa.retry,
        soa_expire=section.soa.expire,
    )
    journal = Journal(config.data_dir / "registry")
    history = History(config.data_dir / "registry" / "history")
    try:
        enrolment = Enrolment(domains, members(config), journal, clock, section.origin)
        times = PublisherTimes(coalesce_s=section.coalesce, keep_s=section.keep or 0.0)
        publisher = Publisher(
            enrolment,
            journal,
            clock,
            ttls,
            times,
            addresses=(section.dns.host,),
            zone=section.zone or "",
            delegations=config.cuts(),
            dress=_edge(config).dress,
            history=history,
        )
        await _first_publication(publisher)
        # It changes only when the registry is started with other domains, so it takes the serial of that time.
        apexes = sorted({section.top, *(f"{name}.{section.origin}" for name in config.served)})
        catalog = catalog_zone(section.top, apexes, journal.last_serial(), ttls)
        primary = Primary(publisher.zones, clock, config.keys().values(), publisher.history.since, ZoneSet([catalog]))
        limiter = Limiter(clock.monotonic, section.udp_rate)
        server = NameServer(publisher.zones, section.dns.host, section.dns.port, primary=primary, limiter=limiter)
        await server.start()
        try:
            async with (
                _notifying(config, publisher, catalog, clock) as notifier,
                memberships(config, enrolment, publisher, clock) as parents,
                serving(
                    registry_app(enrolment, publisher, clock, memberships=parents, warnings=notifier.unheard),
                    section.http,
                ),
            ):
                yield publisher
        finally:
            await server.close()
    finally:
        history.close()
        journal.close()


def _edge(config: FederationConfig) -> Edge:
    ds = DsFile(config.ds_file).records if config.ds_file is not None else dict
    return Edge(config.registry.top, config.registry.servers, ds)


@asynccontextmanager
async def _notifying(
    config: FederationConfig, publisher: Publisher, catalog: Zone, clock: Clock
) -> AsyncIterator[Notifier]:
    """The secondaries are told of every zone now, and then of what is published."""

    def zone(apex: str) -> Zone | None:
        return catalog if apex == catalog.apex else publisher.zones().by_apex.get(name_to_wire(apex))

    keys = config.keys()
    secondaries = [each.secondary(name, keys) for name, each in config.registry.secondaries.items()]
    notifier = Notifier(secondaries, zone, clock, optional=[catalog.apex])
    notifier.tell([catalog.apex, *(each.apex for each in publisher.zones().by_apex.values())])
    publisher.on_published.append(notifier.tell)
    try:
        yield notifier
    finally:
        publisher.on_published.remove(notifier.tell)
        await notifier.close()


async def _first_publication(publisher: Publisher) -> None:
    """Before it the name server would refuse what it is there for, and gateways would take that for an answer."""
    wait_s = await publisher.tick()
    while wait_s > 0:
        await asyncio.sleep(wait_s)  # the clock has to pass the last serial
        wait_s = await publisher.tick()
