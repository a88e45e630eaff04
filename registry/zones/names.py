"""The names of a branch of a zone."""

from __future__ import annotations

from collections.abc import Mapping

from registry.dns.rrset import RRset
from registry.versioned import Versioned

Node = tuple[RRset, ...]  # of one name; () at an empty non-terminal
Branch = Mapping[bytes, Node]  # names by their labels before the apex, in wire form


class Names(Versioned[bytes, Node]):
    """The names of one branch, cheap to change."""

    __slots__ = ()
