"""`kindred withdraw`: takes a node out of its network's store and of its next epoch, and prints the receipt."""

from __future__ import annotations

import argparse
import sys

import orjson

from gateway.cli.exits import Exit
from gateway.configuration.config import FederationConfig
from regional.client import NetworkClient
from regional.connections import Connections
from regional.packets.packet import node_text
from registry.errors import UnknownName
from registry.jsontext import loads

TIMEOUT_S = 30.0
MAX_REPLY = 64 * 1024


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("network", help="the network's name in federation.yaml")
    command.add_argument("node", help="the node's id, as in the network's file")


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    network = config.networks.get(options.network)
    if network is None:
        raise UnknownName(f"{config.file}: no network is called {options.network!r}")
    async with Connections() as connections:
        path = f"/v1/packets/{node_text(options.node.encode())}"
        client = NetworkClient(connections)
        body = await client.fetch(network.endpoint, path, "application/json", MAX_REPLY, TIMEOUT_S, "DELETE")
    said = loads(body)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(said) + b"\n")
    else:
        sys.stdout.write(f"{network.name}: withdrawn; receipt {said.get('receipt')}\n")
    return Exit.DONE
