"""`kindred deposit`: rows of a file become packets of a network, durable when this returns."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.exits import Exit
from gateway.configuration.config import FederationConfig, NetworkConfig
from regional.client import NetworkClient
from regional.connections import Connections
from regional.files.loading import load
from regional.files.table import Row, read_rows
from regional.packets.packet import Packet
from registry.errors import DocumentError, InputError, TooLarge, Unavailable, UnknownName

BATCH = 500
BATCH_TIMEOUT_S = 60.0
MAX_ATOMIC = 20_000
COVERED_TIMEOUT_S = 60.0
SHOWN_REJECTIONS = 10


@dataclass(slots=True)
class Result:
    """What one network took.

    read: rows of the file; rows: those that are this network's by its `where`. collapsed: rows that share a node
    with a later row; rejected: [{line, path, reason}].
    """

    network: str
    read: int = 0
    rows: int = 0
    accepted: int = 0
    stale: int = 0
    collapsed: int = 0
    rejected: list[dict[str, object]] | None = None
    covered: bool = False


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("network", nargs="?", help="the network's name in federation.yaml")
    command.add_argument("file", nargs="?", type=Path, help=".csv, .csv.gz or .ndjson; default: the network's `data`")
    command.add_argument("--all", action="store_true", help="every network that has `data`")
    command.add_argument("--atomic", action="store_true", help="all rows or none; otherwise bad rows are reported")


async def run(options: argparse.Namespace) -> int:
    config = FederationConfig.from_yaml(options.config)
    if options.all == (options.network is not None):
        raise InputError("name one network, or give --all")
    chosen = _chosen(config, options)
    results = await deposit_all(config, chosen, atomic=options.atomic, quiet=options.json)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps({"networks": [asdict(result) for result in results]}) + b"\n")
    else:
        _show(results)
    for result in results:
        if result.read and not result.rows and not options.all:
            where = dict(config.networks[result.network].where)
            sys.stderr.write(f"kindred: {result.read:,} rows read, but none is of {result.network} (where {where})\n")
            return Exit.ERROR
    return Exit.ERROR if any(result.rejected for result in results) else Exit.DONE


def _chosen(config: FederationConfig, options: argparse.Namespace) -> list[tuple[NetworkConfig, Path]]:
    if options.all:
        return [(network, network.data) for network in config.networks.values() if network.data is not None]
    network = config.networks.get(options.network)
    if network is None:
        raise UnknownName(f"{config.file}: no network is called {options.network!r}")
    path = options.file or network.data
    if path is None:
        raise InputError(f"{network.name} has no `data` in {config.file}; name a file")
    return [(network, path)]


async def deposit_all(
    config: FederationConfig,
    chosen: Sequence[tuple[NetworkConfig, Path]],
    *,
    atomic: bool = False,
    quiet: bool = False,
) -> list[Result]:
    """Deposit each file with its network, and wait until the registry has published what was taken.

    A file that several networks share is read once. Raises DocumentError (atomic: at the first bad row; nothing was
    sent), Refused, TimedOut, Failed.
    """
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results = []
    async with Connections() as connections:
        client = NetworkClient(connections)
        with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
            for (path, domain), networks in _by_file(chosen).items():
                task = progress.add_task(f"{domain}: {path.name}", total=None)
                rejected: list[DocumentError] = []
                rows = list(_rows(config, path, domain, None if atomic else rejected.append))
                jobs = []
                total = 0
                for network in networks:
                    loaded = load(rows, config.schemas()[domain], domain, network.name, network.where)
                    total += len(loaded.packets)
                    result = Result(network.name, len(rows), len(loaded.packets), collapsed=loaded.collapsed)
                    jobs.append(_send(client, network, loaded.packets, result, atomic, _advance(progress, task)))
                progress.update(task, total=total)
                results.extend(await asyncio.gather(*jobs))
                if rejected:
                    results[-1].rejected = [*(results[-1].rejected or []), *map(_rejection, rejected)]
            waiting = progress.add_task("published by the registry", total=len(results))
            for result in results:
                await _covered(client, config.networks[result.network].endpoint, result)
                progress.advance(waiting)
    return results


def _rows(
    config: FederationConfig, path: Path, domain: str, on_error: Callable[[DocumentError], None] | None
) -> Iterator[Row]:
    try:
        yield from read_rows(path, config.schemas()[domain], now=time.time(), on_error=on_error)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None


def _by_file(chosen: Sequence[tuple[NetworkConfig, Path]]) -> dict[tuple[Path, str], list[NetworkConfig]]:
    groups: dict[tuple[Path, str], list[NetworkConfig]] = {}
    for network, path in chosen:
        groups.setdefault((path, network.domain), []).append(network)
    return groups


def _advance(progress: Progress, task: object) -> Callable[[int], None]:
    return lambda n: progress.advance(task, n)  # type: ignore[arg-type]


async def _send(
    client: NetworkClient,
    network: NetworkConfig,
    packets: Sequence[Packet],
    result: Result,
    atomic: bool,
    advance: Callable[[int], None],
) -> Result:
    if atomic and len(packets) > MAX_ATOMIC:
        raise TooLarge(f"{network.name}: {len(packets)} rows in one piece; --atomic takes at most {MAX_ATOMIC}")
    size = max(1, len(packets)) if atomic else BATCH
    for start in range(0, len(packets), size):
        batch = packets[start : start + size]
        report = await client.deposit(network.endpoint, batch, BATCH_TIMEOUT_S, atomic=atomic)
        result.accepted += report.accepted
        result.stale += report.stale
        if report.rejected:
            found = [{"line": start + each.line, "path": each.path, "reason": each.reason} for each in report.rejected]
            result.rejected = [*(result.rejected or []), *found]
        advance(len(batch))
    return result


def _rejection(error: DocumentError) -> dict[str, object]:
    return {"line": error.where.get("line"), "path": error.where.get("column"), "reason": error.detail}


async def _covered(client: NetworkClient, endpoint: str, result: Result) -> None:
    """Wait until the network's coverage holds all it took and is published."""
    try:
        async with asyncio.timeout(COVERED_TIMEOUT_S):
            while (state := await client.coverage(endpoint, BATCH_TIMEOUT_S)).pending:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Unavailable(
            f"{result.network} has stored all {result.accepted:,} it accepted, but the registry has not published its "
            f"coverage within {COVERED_TIMEOUT_S:.0f} s; it goes on trying"
        ) from None
    result.covered = state.uncovered == 0


def _show(results: Sequence[Result]) -> None:
    for result in results:
        line = f"{result.network}: {result.rows:,} rows, {result.accepted:,} accepted"
        if result.stale:
            line += f", {result.stale:,} stale (not newer than what is held)"
        if result.collapsed:
            line += f", {result.collapsed:,} collapsed (overwritten by a later row of the same node)"
        if not result.covered:
            line += ", some uncovered"
        sys.stdout.write(line + "\n")
        for each in (result.rejected or [])[:SHOWN_REJECTIONS]:
            sys.stderr.write(f"kindred: {each['reason']}\n")
        if len(result.rejected or []) > SHOWN_REJECTIONS:
            sys.stderr.write(f"kindred: ... {len(result.rejected or []):,} rows in all were not taken\n")
