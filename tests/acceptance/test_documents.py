"""What the documents tell is so: commands are accepted, files and modules exist, questions can be asked."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from gateway.cli.main import _parse
from gateway.configuration.config import FederationConfig
from gateway.question import Question

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
FLOORS = ("gateway", "regional", "registry")


def commands(text: str) -> list[str]:
    """Every `kindred ...` of a document: lines of indented blocks, without their remarks, and words in backticks."""
    lines = re.findall(r"^ {4}(kindred [^#\n]*)", text, re.MULTILINE)
    words = re.findall(r"`(kindred [^`]*)`", text)
    return [" ".join(each.split()) for each in (*lines, *words)]


def all_commands() -> list[str]:
    return sorted({each for path in DOCUMENTS for each in commands(path.read_text())})


def test_commands_are_found() -> None:
    assert {"kindred check", "kindred up", "kindred deposit --all", "kindred networks"} <= set(all_commands())


@pytest.mark.parametrize("command", all_commands())
def test_a_command_is_accepted(command: str) -> None:
    words = shlex.split(command)[1:]
    if words == ["registry|network|gateway"] or (len(words) == 1 and words[0] == "network"):
        words = ["network", "NAME"]  # the role, spoken of
    options = _parse(words)
    assert options.run is not None
    situation = getattr(options, "situation", None)
    assert situation is None or (ROOT / situation).is_file()


def test_domains_and_networks_in_commands_are_those_of_the_shipped_file() -> None:
    config = FederationConfig.from_yaml(ROOT / "federation.yaml")
    for command in all_commands():
        words = shlex.split(command)
        if words[1] in ("ask", "resolve") and len(words) > 2:
            assert words[2] in config.domains


def test_the_question_for_curl_can_be_asked() -> None:
    found = re.findall(r"curl .*-d '({.*})'", (ROOT / "README.md").read_text())
    assert found
    for text in found:
        Question.from_document(json.loads(text))


@pytest.mark.parametrize("document", NAMED)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("document", NAMED)
def test_files_that_are_named_exist(document: str) -> None:
    """`gateway/planning/plan.py`, `plan.py`, examples/domains/icu.yaml: as paths, or as a file's own name."""
    names = {
        path.name for floor in (*FLOORS, "tests", "benchmarks", "examples") for path in (ROOT / floor).rglob("*.*")
    }
    for named in re.findall(r"[\w./-]+\.(?:py|yaml)\b", (ROOT / document).read_text()):
        name = named.lstrip("./")
        assert (ROOT / name).exists() or (ROOT / document).parent.joinpath(name).exists() or name in names, named


def test_architecture_names_every_module_and_no_other() -> None:
    """The three floors of docs/architecture.md, each with its rooms."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    told: dict[str, set[str]] = {}
    floor = ""
    for line in re.search(r"^## Three floors$(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1].splitlines():  # type: ignore[index]
        if named := re.match(r" {4}(\w+)/ ", line):
            floor = named[1]
            told[floor] = set()
        elif line.startswith("      ") and floor:
            rooms = re.split(r" {2,}", line.strip())[0].replace("->", " ")
            for word in rooms.split():
                inner = re.fullmatch(r"([\w/]+)/\{(.*)\}", word)
                told[floor] |= {f"{inner[1]}/{each}" for each in inner[2].split(",")} if inner else {word.rstrip("/")}
    assert set(told) == set(FLOORS)
    for floor, rooms in told.items():
        there = {
            path.relative_to(ROOT / floor).with_suffix("").as_posix()
            for path in (ROOT / floor).rglob("*.py")
            if path.stem != "__init__" and "cli" not in path.parts
        }
        there |= {"cli"} if floor == "gateway" else set()
        assert rooms == there
