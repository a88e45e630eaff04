"""Where a cell is, as a walk reaches it from the root it starts at: child numbers, and at each step into another
registry's tree the apex of that registry. `(3, "crash.vehicles.asia.kindred.internal.", 0)` is child 0 of the root at
that apex, to which a record of child 3 points. What lies there has the depth `len(path)`."""

from __future__ import annotations

from registry.geometry.cell import Address

Path = tuple[int | str, ...]


def apex_of(path: Path) -> str | None:
    """The apex of the registry that the cell is of; None: the one that the walk starts at."""
    return next((step for step in reversed(path) if isinstance(step, str)), None)


def address_of(path: Path) -> Address:
    """The cell's address in its own registry's tree."""
    steps: list[int] = []
    for step in reversed(path):
        if isinstance(step, str):
            break
        steps.append(step)
    return tuple(reversed(steps))


def shown(path: Path) -> str:
    """The cell as a certificate names it: child numbers, leaf first, and the apex where it is of another registry."""
    apex = apex_of(path)
    return ".".join([*map(str, reversed(address_of(path))), *([] if apex is None else [apex])])
