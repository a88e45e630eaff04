"""`kindred conformance`: whether a registry, asked from outside, does what docs/protocol.md says."""

from __future__ import annotations

import argparse
import sys

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.cli.exits import Exit
from gateway.cli.render import console
from gateway.configuration.config import FederationConfig
from gateway.configuration.section import Address
from gateway.conformance.examination import MAX_AGE_S, MOST_CELLS, Examination
from gateway.conformance.rules import RULES, Findings, Verdict
from gateway.conformance.wire import SocketWire
from registry.clock import SystemClock
from registry.geometry.cell import Naming

_COLOURS = {Verdict.HOLDS: "green", Verdict.VIOLATED: "red", Verdict.UNCHECKED: "dim"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("server", metavar="HOST:PORT", help="the name server")
    command.add_argument("--domain", action="append", help="default: those of federation.yaml; may be repeated")
    command.add_argument("--origin", help="default: that of federation.yaml")
    command.add_argument("--cells", type=int, default=MOST_CELLS, help="cells to open at most; default: %(default)s")
    command.add_argument("--max-age", type=float, default=MAX_AGE_S, help="seconds; default: %(default)s")
    command.add_argument("--wait", type=float, default=0.0, help="seconds to wait for the serial to grow; default: 0")


async def run(options: argparse.Namespace) -> int:
    server = Address.model_validate(options.server)
    domains, origin = options.domain, options.origin
    if not domains or not origin:
        config = FederationConfig.from_yaml(options.config)
        domains, origin = domains or list(config.domains), origin or config.registry.origin
    wire = SocketWire(server.host, server.port)
    examined = []
    for domain in domains:
        naming = Naming(domain, origin if origin.endswith(".") else f"{origin}.")
        examination = Examination(
            wire,
            naming,
            SystemClock(),
            max_age_s=options.max_age,
            wait_s=options.wait,
            most_cells=options.cells,
        )
        examined.append((naming, examination, await examination.run()))
    if options.json:
        report = [
            {
                "domain": naming.domain,
                "apex": naming.apex,
                "cells": examination.tree.cells if examination.tree else 0,
                "networks": len(examination.tree.networks) if examination.tree else 0,
                "conforms": not findings.violated,
                "rules": findings.document(),
            }
            for naming, examination, findings in examined
        ]
        sys.stdout.buffer.write(orjson.dumps({"server": options.server, "domains": report}) + b"\n")
    else:
        for naming, examination, findings in examined:
            _show(naming, examination, findings, console())
    return Exit.ERROR if any(findings.violated for _, _, findings in examined) else Exit.DONE


def _show(naming: Naming, examination: Examination, findings: Findings, out: Console) -> None:
    tree = examination.tree
    walked = f"{tree.cells} cells, {len(tree.networks)} networks" if tree else "no tree"
    out.print(f"[bold]{escape(naming.apex)}[/bold]  {walked}")
    table = Table(
        "rule", "verdict", "times", "what is wrong, or the rule", "docs/protocol.md", box=None, pad_edge=False
    )
    for name, finding in findings.by_rule.items():
        colour = _COLOURS[finding.verdict]
        section, says = RULES[name]
        verdict = f"[{colour}]{finding.verdict.value}[/{colour}]"
        table.add_row(
            name, verdict, str(finding.times), escape(finding.details[0] if finding.details else says), section
        )
        for more in finding.details[1:]:
            table.add_row("", "", "", escape(more), "")
    out.print(table)
    broken = len(findings.violated)
    out.print(f"{broken} of {len(RULES)} rules are violated" if broken else "conforms, as far as it was looked at")
