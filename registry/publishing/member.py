"""Who may speak for a domain: members that the operator admitted, and the shares into which one has split itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from registry.publishing.grant import Grant

MAX_SHARES: Final = 64
_SHARE: Final = re.compile(r"(?P<home>[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)-s(?P<number>[1-9][0-9]?)")


@dataclass(frozen=True, slots=True)
class Member:
    """A network that the operator has admitted, or a registry. key: 32 bytes, Ed25519. endpoints: URIs, the preferred
    one first. grant: what a registry may claim; None for a network. home: of a share, the network whose packets it
    holds.
    """

    name: str
    domain: str
    key: bytes
    endpoints: tuple[str, ...]
    engine: str
    grant: Grant | None = None
    home: str | None = None


class Members(dict[str, Member]):
    """By name, those admitted. Asked for the share of a network by its name, it tells what follows from the network.

    So a network may split itself without anybody's leave: its own key signs for the packets that are its own, and its
    shares answer beside it. A name that is admitted by itself is never a share.
    """

    def __missing__(self, name: str) -> Member:
        home = self.get(home_of(name) or "")
        if home is None or home.grant is not None or home.home is not None:
            raise KeyError(name)
        return replace(
            home, name=name, endpoints=tuple(beside(each, home.name, name) for each in home.endpoints), home=home.name
        )


def share_name(home: str, number: int) -> str:
    """The name of a share; the network itself is number 1. Raises ValueError beyond `MAX_SHARES`."""
    if not 1 <= number <= MAX_SHARES:
        raise ValueError(f"a network has shares 1 to {MAX_SHARES}")
    return home if number == 1 else f"{home}-s{number}"


def home_of(name: str) -> str | None:
    """The network that this would be a share of; None for what is no share's name.

    >>> home_of("farms-s2"), home_of("farms-s1"), home_of("farms")
    ('farms', None, None)
    """
    match = _SHARE.fullmatch(name)
    return match["home"] if match and 2 <= int(match["number"]) <= MAX_SHARES else None


def beside(endpoint: str, home: str, share: str) -> str:
    """Where a share answers: beside its network, in the same process."""
    return f"{endpoint.removesuffix(home)}{share}" if endpoint.endswith(f"/{home}") else endpoint
