"""Answers and walks as tables for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.answer import Answer
from gateway.certificate import Certificate
from gateway.cli.findings import show_findings

SHOWN_NETWORKS = 12
SHOWN_CELLS = 12
WIDTH = 140  # of what is no terminal, where nothing must be cut


def console() -> Console:
    """Standard output; lines are not cut where it goes into a file or another program."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def show_answer(answer: Answer, console: Console) -> None:
    """The walk, who was asked, the certificate, the synthesis."""
    walk = answer.walk
    console.print(
        f"[bold]{escape(answer.domain)}[/bold]  k={answer.k} per {answer.per}, {answer.found} neighbours"
        f"  |  walk: {walk.cells} cells of generation {walk.generation}, {walk.lookups} looked up,"
        f" {walk.networks_met} networks met"
    )
    _show_networks(answer, console)
    if walk.generation:
        show_certificate(answer.certificate, console)
    show_findings(answer, console)
    for warning in answer.warnings:
        console.print(f"[yellow]! {escape(warning['text'])}[/yellow]", highlight=False)
    if answer.notice:
        console.print(f"[dim]{escape(answer.notice.strip())}[/dim]", highlight=False)


def _show_networks(answer: Answer, console: Console) -> None:
    table = Table("network", "disposition", "neighbours", "ms", "why", box=None, pad_edge=False)
    asked = [each for each in answer.networks if each.outcome.ms is not None]
    skipped = [each for each in answer.networks if each.outcome.ms is None]
    for each in [*asked[:SHOWN_NETWORKS], *skipped[:3]]:
        ms = f"{each.outcome.ms:.1f}" if each.outcome.ms is not None else ""
        table.add_row(
            each.name, each.outcome.disposition.value, str(each.contributed), ms, escape(each.outcome.reason or "")
        )
    console.print(table)
    more = max(0, len(asked) - SHOWN_NETWORKS) + max(0, len(skipped) - 3)
    if more:
        console.print(f"[dim]... {len(asked)} asked and {len(skipped)} skipped in all (--json shows each)[/dim]")


def show_certificate(certificate: Certificate, console: Console) -> None:
    """What the answer can and cannot miss."""
    if certificate.neighbours_complete:
        console.print(f"[green]certificate: the neighbours are complete[/green] (as of {_moment(certificate.as_of)})")
        return
    within = certificate.complete_within
    console.print(
        f"[red]certificate: not complete[/red]; everything nearer than "
        f"{'any distance' if within is None else f'{within:.4g}'} is in the answer (as of {_moment(certificate.as_of)})"
    )
    for each in certificate.missing:
        what = each.network or f"cell {each.cell}"
        console.print(
            f"  missing {escape(what)}: {each.disposition}; nothing of it nearer than {each.lower_bound:.4g},"
            f" at most {each.at_most} of the neighbours"
        )


def show_walk(walked: Mapping[str, Any], console: Console) -> None:
    """The cells opened, then the networks in the order in which they promise neighbours."""
    for registry in walked["registries"]:
        console.print(
            f";; apex {registry['apex']} generation {registry['generation']} serial {registry['serial']}"
            f" from {', '.join(registry['servers'])}",
            highlight=False,
        )
    for cell in walked["cells"][:SHOWN_CELLS]:
        what = f"{cell['records']} records" if cell["records"] is not None else f"unresolved: {cell['reason']}"
        console.print(f"{cell['name']:<60} SVCB  {what}", highlight=False)
    if len(walked["cells"]) > SHOWN_CELLS:
        console.print(f"... {len(walked['cells']):,} cells in all (--json shows each)")
    table = Table("network", "lower bound", "expected neighbours", "lease", box=None, pad_edge=False)
    for each in walked["networks"][:SHOWN_NETWORKS]:
        lease = "lapsed" if each["lapsed"] else "current"
        table.add_row(each["name"], f"{each['lower_bound']:.4g}", f"{each['expected']:.1f}", lease)
    console.print(table)
    if len(walked["networks"]) > SHOWN_NETWORKS:
        console.print(f"... {len(walked['networks'])} networks met in all (--json shows each)")


def show_forecast(walked: Mapping[str, Any], console: Console) -> None:
    """What asking would cost."""
    cost = walked["forecast"]
    more = f", {cost['more_cells']} more to open" if cost["more_cells"] else ""
    console.print(
        f"about {cost['networks']} of {cost['met']} networks met would be asked;"
        f" {cost['cells']} cells opened for this{more}"
    )


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds").removesuffix("+00:00") + " UTC"
