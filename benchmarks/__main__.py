"""`python -m benchmarks [NAME ...]`: run all benchmarks, or those named."""

from __future__ import annotations

import importlib
import sys

from benchmarks.report import Report, keep

BENCHMARKS = (
    "main_job",
    "killed",
    "durability",
    "asking",
    "throughput",
    "planner",
    "precision",
    "poisoning",
    "atoms",
    "attackers",
    "calibration",
    "synthesis",
    "engine",
    "engines",
    "dht",
    "moving",
    "nameserver",
    "secondaries",
    "zones",
    "scale",
    "resolvers",
)


def main(names: list[str]) -> int:
    """Each benchmark is a module with `run(report)`."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    reports = []
    for name in names or BENCHMARKS:
        print(f"== {name}", flush=True)
        report = Report(name)
        importlib.import_module(f"benchmarks.{name}").run(report)
        reports.append(report)
        keep(reports)
    missed = [record for report in reports for record in report.records if record["holds"] is False]
    print(f"{sum(len(report.records) for report in reports)} figures, {len(missed)} beyond their bar")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
