"""The rules that a registry is held to, by name, and what was found of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MOST_DETAILS = 20  # of one rule that are kept; more of the same say nothing new

_NAMES, _APEX, _NETWORK, _CELLS = "Names", "TXT of a domain's apex", "TXT and URI of a network", "Cell records"
_TIMES, _ANSWERS = "Times to live and serials", "Answers"

# By name: the section of docs/protocol.md, and the rule in a line.
RULES: Mapping[str, tuple[str, str]] = {
    "reachable": (_ANSWERS, "questions are answered over UDP and over TCP"),
    "authoritative": (_ANSWERS, "answers of the zone have AA"),
    "apex-soa": (_TIMES, "the apex has one SOA record"),
    "apex-ns": (_NAMES, "the apex has NS records"),
    "apex-text": (_APEX, "the apex has one TXT record, of the form described"),
    "serial-fresh": (_TIMES, "the serial is the time of publication: not in the future, not older than --max-age"),
    "serial-grows": (_TIMES, "the serial never goes back, and has grown within --wait"),
    "ttl": (_TIMES, "records of a set have one time to live, 1 s to 2^31-1 s"),
    "negative-ttl": (_TIMES, "a negative answer lives for the lesser of the SOA's time to live and its minimum"),
    "cell-resolves": (_CELLS, "the root cell, and every cell that another points to, has SVCB records"),
    "cell-record": (_CELLS, "every record has the layout described"),
    "cell-size": (_CELLS, "a cell has at most 64 records and 16 KiB"),
    "cell-depth": (_NAMES, "a cell lies at most 16 below its root"),
    "cell-child": (_CELLS, "a record points to a cell directly below its own, and no two to the same"),
    "cell-contains": (
        _CELLS,
        "what points to a cell contains, in ball and box, what the leaf records below it contain",
    ),
    "cell-counts": (_CELLS, "what points to a cell counts at least what its leaf records count together"),
    "cell-lapsed": (_CELLS, "what points to a cell is lapsed where one of its records is"),
    "network-text": (_NETWORK, "a network that a cell points to has one TXT record, of the form described"),
    "network-uri": (_NETWORK, "its URI records hold URIs"),
    "nxdomain": (_ANSWERS, "a name that is not there gets NXDOMAIN with the SOA and no records"),
    "nodata": (_ANSWERS, "a name without such records gets NOERROR with the SOA and no records"),
    "case": (_ANSWERS, "a name is found in any case, and the question is repeated as it was asked"),
    "udp-size": (_ANSWERS, "over UDP at most 512 octets without EDNS, at most 1232 and the asker's size with it"),
    "truncation": (_ANSWERS, "over UDP an answer is whole or has TC"),
    "edns": (_ANSWERS, "OPT is answered with OPT, no OPT with none; unknown options are passed over"),
    "badvers": (_ANSWERS, "EDNS versions above 0 get BADVERS"),
    "opcode": (_ANSWERS, "an unknown opcode gets NOTIMP"),
    "refused": (_ANSWERS, "another zone gets REFUSED"),
    "any": (_ANSWERS, "ANY gets one set of records at most, or TC"),
    "pipelining": (_ANSWERS, "questions sent at once on one connection are all answered"),
}


class Verdict(Enum):
    HOLDS = "holds"
    VIOLATED = "violated"
    UNCHECKED = "unchecked"


@dataclass(slots=True)
class Finding:
    """What was found of one rule. times: how often it was looked at. details: what is wrong, and where."""

    times: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        if self.details:
            return Verdict.VIOLATED
        return Verdict.HOLDS if self.times else Verdict.UNCHECKED


class Findings:
    """Of all rules. A rule that nothing could be checked of is `unchecked`, never `holds`."""

    def __init__(self) -> None:
        self.by_rule = {name: Finding() for name in RULES}

    def check(self, rule: str, holds: bool, wrong: str) -> bool:
        """Note one look at a rule; `wrong` says what is wrong where it does not hold."""
        finding = self.by_rule[rule]
        finding.times += 1
        if not holds and len(finding.details) < MOST_DETAILS:
            finding.details.append(wrong)
        return holds

    def forget(self, prefix: str) -> bool:
        """Start anew with the rules of which the names start so, if one of them is violated; whether one was."""
        names = [name for name in self.by_rule if name.startswith(prefix)]
        if not set(names) & set(self.violated):
            return False
        self.by_rule.update({name: Finding() for name in names})
        return True

    @property
    def violated(self) -> list[str]:
        return [name for name, finding in self.by_rule.items() if finding.verdict is Verdict.VIOLATED]

    def document(self) -> list[dict[str, Any]]:
        """For --json."""
        return [
            {
                "rule": name,
                "section": RULES[name][0],
                "says": RULES[name][1],
                "verdict": finding.verdict.value,
                "times": finding.times,
                "details": finding.details,
            }
            for name, finding in self.by_rule.items()
        ]
