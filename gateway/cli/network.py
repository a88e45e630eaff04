"""`kindred network`: networks with their stores, their service, and an advertiser for each."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from gateway.cli.ground import NetworkGround
from gateway.cli.running import add_attached, serving, until_signal
from gateway.configuration.config import FederationConfig, NetworkConfig
from regional.engines.embedded.writer import Writer
from regional.network import Network
from regional.service import network_app
from regional.shares.splitting import Household
from regional.shares.steering import Steered, add_steering
from registry.clock import Clock, SystemClock
from registry.errors import UnknownName
from registry.http.client import RegistryClient


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
async def running_networks(
    config: FederationConfig, chosen: Sequence[NetworkConfig], waiting: Clock | None = None
) -> AsyncIterator[None]:
    """These networks in this process: their stores, their service, and an advertiser for each.

    waiting: the clock by which what was handed over is waited for.
    """
    clock = SystemClock()
    writer = Writer()
    networks: dict[str, Network] = {}
    steered: dict[str, Steered] = {}
    async with aiohttp.ClientSession() as session:
        registry = RegistryClient(session, f"http://{config.registry.http}")
        try:
            for each in chosen:
                ground = NetworkGround(config, each, writer, registry, clock, waiting or clock)
                network, engine = ground.home()
                networks[each.name] = network
                household = Household(network, engine, ground, networks)
                steered[each.name] = Steered(household, ground.key.public)
                await household.open()
            app = network_app(networks)
            add_steering(app, steered, clock)
            async with serving(app, chosen[0].listen):
                for one in steered.values():
                    one.household.start()
                yield
        finally:
            for one in steered.values():
                await one.household.close()
            writer.close()


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
