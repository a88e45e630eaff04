"""A figure, how a run collects figures, and where they are kept (build/bench.json, docs/benchmarks.md)."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "build" / "bench.json"
PAGE = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. ratio: value over `against`, where there is one; holds: None where there is no bar."""

    issue: int
    figure: str
    name: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None
    bar: str | None = None
    holds: bool | None = None


class Report:
    """Collects the figures of one benchmark and prints each as it comes."""

    def __init__(self, benchmark: str) -> None:
        self.benchmark = benchmark
        self.records: list[dict[str, object]] = []

    def add(self, figure: Figure) -> None:
        mark = {None: " ", True: "+", False: "-"}[figure.holds]
        ratio = f"  x{figure.ratio:.3g} of {figure.against}" if figure.ratio is not None else ""
        bar = f"  (bar {figure.bar})" if figure.bar else ""
        print(
            f"{mark} {figure.figure:<5} {figure.name:<80} {number(figure.value)} {figure.unit}{ratio}{bar}", flush=True
        )
        stamp = {"benchmark": self.benchmark, "machine": machine(), "date": datetime.now(UTC).isoformat("T", "seconds")}
        self.records.append({**asdict(figure), **stamp, "load": round(os.getloadavg()[0], 1)})


def number(value: float) -> str:
    """Four significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def machine() -> str:
    """Processor, cores, memory, Python."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (match := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        model = match[1]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {gib:.0f} GiB, Python {platform.python_version()}"


def keep(reports: Iterable[Report]) -> None:
    """Put the runs' records in the place of older ones of the same benchmarks, in both files."""
    reports = list(reports)
    ran = {report.benchmark for report in reports}
    page = _read_page()
    records = [record for record in page if record["benchmark"] not in ran]
    records += [record for report in reports for record in report.records]
    records.sort(key=lambda record: (record["issue"], str(record["figure"])))
    RECORDS.parent.mkdir(exist_ok=True)
    RECORDS.write_text("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n")
    PAGE.write_text(_page(records))


def _read_page() -> list[dict[str, object]]:
    """The records that the page keeps (its last line, as JSON in a comment), so that a clean clone has them."""
    if not PAGE.exists():
        return []
    found = re.search(r"<!-- records\n(.*)\n-->", PAGE.read_text(), re.DOTALL)
    return list(json.loads(found[1])) if found else []


def _page(records: list[dict[str, object]]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "The last run of each benchmark on a shared machine: compare figures within one table only. `make bench` runs",
        "all of them, `make bench only=NAME` one; each prints its table and renews its part of this page.",
        "",
    ]
    for benchmark in dict.fromkeys(str(record["benchmark"]) for record in records):
        part = [record for record in records if record["benchmark"] == benchmark]
        loads = [float(str(record["load"])) for record in part if "load" in record]
        load = f"; load average {min(loads):.1f} to {max(loads):.1f}" if loads else ""
        lines += [f"## {benchmark}", "", f"{part[0]['machine']}; {part[-1]['date']}{load}", ""]
        lines += [
            "| issue | figure | name | value | unit | against | ratio | bar | holds |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for record in part:
            ratio = "" if record["ratio"] is None else f"{record['ratio']:.3g}"
            holds = {None: "", True: "yes", False: "**no**"}[record["holds"]]  # type: ignore[index]
            cells = [
                record["issue"],
                record["figure"],
                record["name"],
                number(float(str(record["value"]))),
                record["unit"],
            ]
            cells += [record["against"] or "", ratio, record["bar"] or "", holds]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        lines.append("")
    lines += ["<!-- records", json.dumps(records), "-->", ""]
    return "\n".join(lines)
