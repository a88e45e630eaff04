"""`kindred gateway`: questions over HTTP, in one process; several share the address where `workers` says so."""

from __future__ import annotations

import argparse

from gateway.cli.running import add_attached, serving, until_signal
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from gateway.service import gateway_app


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_attached(command)


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    shared = config.gateway.workers > 1
    async with Federation.open(config) as federation, serving(gateway_app(federation), config.gateway.listen, shared):
        return await until_signal(options.attached)
