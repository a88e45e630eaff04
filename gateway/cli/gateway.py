"""`kindred gateway`: questions over HTTP."""

from __future__ import annotations

import argparse

from gateway.cli.running import serving, until_signal
from gateway.config import FederationConfig
from gateway.federation import Federation
from gateway.service import gateway_app


def add_arguments(_command: argparse.ArgumentParser) -> None:
    """It has none of its own."""


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    async with Federation.open(config) as federation, serving(gateway_app(federation), config.gateway.listen):
        return await until_signal()
