"""The layout holds: imports run gateway -> regional -> registry, and the pure rooms know no sockets and no clock."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("registry", "regional", "gateway")
PURE_FOLDERS = (
    "registry/likeness", "registry/geometry", "registry/zones", "gateway/planning", "gateway/statistics",
)  # fmt: skip
PURE = (
    *(each.relative_to(ROOT).as_posix() for folder in PURE_FOLDERS for each in sorted((ROOT / folder).glob("*.py"))),
    "registry/dns/wire.py", "registry/dns/rrset.py", "registry/dns/message.py", "registry/serving/responder.py",
    "registry/resolving/delegation.py", "registry/resolving/dating.py", "registry/resolving/zonecopy.py",
    "registry/resolving/signature.py", "gateway/certificate.py", "gateway/account.py",
    "regional/packets/packet.py", "regional/clustering.py", "regional/cohort.py", "regional/moments.py",
    "regional/releasing/lifetable.py", "regional/releasing/atom.py", "regional/releasing/grouping.py",
    "regional/releasing/release.py", "regional/releasing/page.py", "regional/releasing/epoch.py",
)  # fmt: skip
IMPURE = {"asyncio", "aiohttp", "socket", "time", "selectors", "threading", "lmdb"}


def imports(path: Path) -> set[str]:
    """Full names of everything that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def reach(module: str, seen: set[str]) -> set[str]:
    """Everything that a module of the project imports, directly or through others of the project."""
    if module in seen or module.split(".", maxsplit=1)[0] not in FLOORS:
        return seen | {module}
    seen = seen | {module}
    path = ROOT / (module.replace(".", "/") + ".py")
    if path.is_file():
        for name in imports(path):
            seen = reach(name, seen)
    return seen


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_run_down_only(floor: str) -> None:
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    for path in (ROOT / floor).rglob("*.py"):
        up = {name for name in imports(path) if name.split(".")[0] in above}
        assert not up, f"{path.relative_to(ROOT)} imports {up}"


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_know_no_sockets_and_no_clock(room: str) -> None:
    reached = reach(room.removesuffix(".py").replace("/", "."), set())
    assert not {name for name in reached if name.split(".")[0] in IMPURE}
    assert "datetime.datetime.now" not in (ROOT / room).read_text()


def test_no_circles() -> None:
    graph = {}
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            graph[module] = {name for name in imports(path) if name.split(".")[0] in FLOORS} - {module}
    state: dict[str, int] = {}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert state.get(module) != 1, f"circle: {' -> '.join([*trail, module])}"
        if state.get(module) == 2 or module not in graph:
            return
        state[module] = 1
        for name in graph[module]:
            visit(name, (*trail, module))
        state[module] = 2

    for module in graph:
        visit(module, ())


def test_no_circles_of_folders() -> None:
    """A folder of a floor that imports another is not imported by it; the floor's own modules are each for itself."""
    graph: dict[str, set[str]] = {}
    for floor in FLOORS:
        folders = {each.name for each in (ROOT / floor).iterdir() if each.is_dir() and (each / "__init__.py").exists()}
        for folder in folders:
            parts = [name.split(".") for path in (ROOT / floor / folder).rglob("*.py") for name in imports(path)]
            own = {part[1] for part in parts if part[0] == floor and len(part) > 1}
            graph[f"{floor}.{folder}"] = {f"{floor}.{name}" for name in own & folders - {folder}}
    tuple(TopologicalSorter(graph).static_order())


def test_no_room_is_called_utils_or_common() -> None:
    names = {path.stem for floor in FLOORS for path in (ROOT / floor).rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_the_gateway_does_not_load_the_clustering_library() -> None:
    for start in ("gateway.federation", "gateway.service"):
        assert not {name for name in reach(start, set()) if name.startswith("sklearn")}
