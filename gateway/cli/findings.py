"""What an answer's synthesis says, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.answer import Answer

SHOWN_PAIRS = 3  # of actions; with eight there are 28


def show_findings(answer: Answer, console: Console) -> None:
    """Per outcome the arms, their differences and what each network says of them; then the balance of the arms."""
    for name, outcome in answer.synthesis.items():
        _show_outcome(name, cast(Mapping[str, Any], outcome), console)
    worst = sorted(answer.balance, key=lambda pair: -int(str(pair["beyond_chance"])))
    for pair in worst[:SHOWN_PAIRS]:
        _show_balance(pair, console)
    _say_how_many(len(worst), console)


def _show_outcome(name: str, outcome: Mapping[str, Any], console: Console) -> None:
    unit = f", {outcome['unit']}" if outcome.get("unit") else ""
    table = Table("action", "n", "n_eff", "estimate", "95% interval", "adjusted", "how", box=None, pad_edge=False)
    for action, found in outcome["actions"].items():
        estimate = "" if found["estimate"] is None else _number(found["estimate"])
        table.add_row(
            escape(action or "all"),
            str(found["n"]),
            f"{found['n_eff']:.1f}",
            estimate,
            _interval(found),
            _adjusted(found),
            _method(found),
        )
    console.print(f"[bold]{escape(name)}[/bold] ({outcome['kind']}{unit})")
    console.print(table)
    _show_differences(
        [each for each in outcome["differences"] if each["estimate"] is not None or each["whole"]], console
    )
    if outcome["verdict"]:
        console.print(f"  verdict: {outcome['verdict']}")
    if outcome["distinct"]:
        console.print(f"  {outcome['distinct']}")
    for pair in outcome["heterogeneity"] or ():
        _show_corroboration(pair, console)


def _show_differences(pairs: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Those whose interval holds no 0 first."""
    ordered = sorted(pairs, key=lambda each: each["low"] is None or each["low"] <= 0 <= each["high"])
    for each in ordered[:SHOWN_PAIRS]:
        console.print(
            f"  {escape(each['action'])} less {escape(each['minus'])}: {_told(each)}{_over_the_whole(each)}",
            highlight=False,
        )
    _say_how_many(len(pairs), console)


def _told(pair: Mapping[str, Any]) -> str:
    if pair["estimate"] is None:
        return "too few near you"
    interval = f" ({_interval(pair)})" if pair["low"] is not None else ""
    adjusted = f"; adjusted {_adjusted(pair)}" if pair["adjusted"] is not None else ""
    return f"{_number(pair['estimate'])}{interval}{adjusted}"


def _over_the_whole(pair: Mapping[str, Any]) -> str:
    whole = pair["whole"]
    if whole is None:
        return ""
    adjusted = f", adjusted {_adjusted(whole)}" if whole["adjusted"] is not None else ""
    interval = f" ({_interval(whole)})" if whole["low"] is not None else ""
    return f"; over the whole domain {_number(whole['estimate'])}{interval}{adjusted}"


def _show_corroboration(pair: Mapping[str, Any], console: Console) -> None:
    """What the networks say of a pair, each by itself."""
    found = pair["random_effects"]
    pooled = f"; together {_number(found['estimate'])} ({_interval(found)})" if found is not None else ""
    robust = pair["robust"]
    middle = f", robust {_number(robust['estimate'])}" if robust is not None else ""
    aside = f" without {escape(', '.join(robust['aside']))}" if robust is not None and robust["aside"] else ""
    flags = "".join(f"; [red]{flag}[/red]" for flag in pair["flags"])
    console.print(
        f"  within networks, {escape(pair['action'])} less {escape(pair['minus'])}: {len(pair['networks'])} networks,"
        f" median {_number(pair['median']['estimate'])}{middle}{aside}{pooled}{flags}",
        highlight=False,
    )


def _show_balance(pair: Mapping[str, Any], console: Console) -> None:
    worst = [each for each in pair["features"] if each["smd"] > each["chance"]][:3]
    named = "".join(f"; {each['label']} {each['smd']:.2f} (chance {each['chance']:.2f})" for each in worst)
    console.print(
        f"balance of {escape(pair['action'])} and {escape(pair['minus'])}: {pair['beyond_chance']} of {pair['of']}"
        f" features differ by more than chance{escape(named)}",
        highlight=False,
    )


def _say_how_many(pairs: int, console: Console) -> None:
    if pairs > SHOWN_PAIRS:
        console.print(f"[dim]  ... {pairs} pairs of actions in all (--json shows each)[/dim]", highlight=False)


def _adjusted(found: Mapping[str, Any]) -> str:
    moved = found["adjusted"]
    if moved is None:
        return ""
    return _number(moved["estimate"]) + (f" ({_interval(moved)})" if moved["low"] is not None else "")


def _interval(found: Mapping[str, Any]) -> str:
    return "" if found["low"] is None else f"{_number(found['low'])} to {_number(found['high'])}"


def _method(found: Mapping[str, Any]) -> str:
    if found["estimate"] is None and found["events"] is not None:
        return f"{found['method']}: {found['events']} events"
    return str(found["method"])


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
