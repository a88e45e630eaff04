"""A picture of an answer: per outcome a forest plot of the arms, and of durations their survival curves.

What an arm cannot tell is left out and said; nothing is ranked, no colour means good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from registry.errors import ConfigError

WIDTH = 9.0  # inches
ROW, HEAD, CURVES = 0.32, 1.1, 3.2  # inches: an arm, what stands round a forest, a panel of curves
DPI = 110
COLOURS = ("#1b6ca8", "#c8553d", "#588b3a", "#8e5ba6", "#b8860b", "#3a9a9a", "#7a5c48", "#5b5b5b")


def draw(answer: Mapping[str, Any], path: Path) -> None:
    """Write the picture of an answer document to `path`, as its suffix (.svg, .png) says. Raises ConfigError."""
    outcomes = {name: found for name, found in answer["synthesis"].items() if found["actions"]}
    panels = [(name, kind) for name, found in outcomes.items() for kind in _panels(found)]
    heights = [_height(outcomes[name], kind) for name, kind in panels]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.9), dpi=DPI, layout="constrained")
    axes: list[Axes] = []
    if panels:
        axes = list(figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0])
    for (name, kind), panel in zip(panels, axes, strict=True):
        (_forest if kind == "forest" else _curves)(panel, name, outcomes[name])
    complete = answer["certificate"]["neighbours_complete"]
    figure.suptitle(
        f"{answer['domain']}: {answer['found']} neighbours, {'proved complete' if complete else 'NOT proved complete'}",
        fontsize=11,
    )
    notes = [] if answer["study"] == "randomised" else ["OBSERVATIONAL: a difference is not a proof of effect."]
    notes += ["Not a medical device."] if "medic" in answer["domain"] else []
    figure.supxlabel("  ".join(notes), fontsize=8)
    try:
        figure.savefig(path, format=path.suffix[1:], metadata={"Date" if path.suffix == ".svg" else "Software": None})
    except OSError as error:
        raise ConfigError(f"{path}: the picture cannot be written: {error.strerror or error}") from None


def _panels(found: Mapping[str, Any]) -> Sequence[str]:
    drawn = any(arm.get("survival") for arm in found["actions"].values())
    return ("forest", "curves") if drawn else ("forest",)


def _height(found: Mapping[str, Any], kind: str) -> float:
    return CURVES if kind == "curves" else HEAD + ROW * len(found["actions"])


def _forest(panel: Axes, name: str, found: Mapping[str, Any]) -> None:
    """One row an arm: estimate, 95% interval, counts; or why there is none."""
    arms = list(found["actions"].items())
    for row, (_, arm) in enumerate(arms):
        counts = f"n {arm['n']}, effective {arm['n_eff']:.0f}" + (
            "" if arm["events"] is None else f", events {arm['events']}"
        )
        if arm["estimate"] is None:
            counts += f": {arm['method']}"
        else:
            colour = COLOURS[row % len(COLOURS)]
            if arm["low"] is not None:
                panel.plot([arm["low"], arm["high"]], [row, row], color=colour, linewidth=2)
            panel.plot([arm["estimate"]], [row], marker="s", color=colour, markersize=6)
        panel.annotate(
            counts, (1.01, row), xycoords=("axes fraction", "data"), fontsize=8, va="center", annotation_clip=False
        )
    panel.set_yticks(range(len(arms)), [action or "all" for action, _ in arms], fontsize=9)
    panel.set_ylim(len(arms) - 0.4, -0.6)
    unit = {"binary": "share with it"}.get(found["kind"], found["unit"])
    panel.set_title(f"{found['label']} ({name}): {found['verdict'] or ''}".rstrip(": "), fontsize=9, loc="left")
    panel.set_xlabel(f"restricted mean, {unit}" if found["kind"] == "duration" else str(unit), fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(axis="x", alpha=0.3)


def _curves(panel: Axes, name: str, found: Mapping[str, Any]) -> None:
    """Kaplan-Meier curves with their 95% bands."""
    for row, (action, arm) in enumerate(found["actions"].items()):
        if not arm.get("survival"):
            continue
        steps = [(0.0, 1.0, None, None), *arm["survival"]["steps"]]
        times = [step[0] for step in steps]
        colour = COLOURS[row % len(COLOURS)]
        panel.step(times, [step[1] for step in steps], where="post", color=colour, label=action or "all", linewidth=1.4)
        banded = [step for step in steps if step[2] is not None]
        if banded:
            panel.fill_between(
                [step[0] for step in banded],
                [step[2] for step in banded],
                [step[3] for step in banded],
                step="post",
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
    panel.set_ylim(0.0, 1.02)
    panel.set_xlim(left=0.0)
    panel.set_xlabel(f"{found['label']} ({name}), {found['unit']}", fontsize=8)
    panel.set_ylabel("share without the event", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)
