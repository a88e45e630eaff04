"""Who carries the registry's records to a gateway: the part of `federation.yaml` that chooses, and what it chooses.

resolver: {walk: 127.0.0.1:5300}                           its own walk over authoritative servers
resolver: {recursive: 127.0.0.1:53, anchor: file:root.ds}  any recursive resolver
resolver: {copy: 127.0.0.1:5300, key: transfer}            transferred copies of the zones
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from gateway.configuration.section import Address, Section
from registry.clock import Clock
from registry.dns.tsig import TsigKey
from registry.resolving.anchor import Anchors
from registry.resolving.authorities import Authorities
from registry.resolving.copies import Copies
from registry.resolving.recursive import Recursive
from registry.resolving.source import Source
from registry.resolving.validator import Validator
from registry.units import duration

MAX_STALE_S = 86_400.0


class ResolverSection(Section):
    """One of walk, recursive and copy; where none is chosen, the registry's own name server is walked.

    walk: servers of the origin, the preferred one first. key: of registry.keys, that the copies are taken by.
    anchor: a file of DS or DNSKEY records, under which everything must validate. stale: how long beyond its time to
    live what was known serves on, flagged, where nobody answers (RFC 8767).
    """

    walk: tuple[Address, ...] = ()
    recursive: Address | None = None
    copied: Annotated[Address | None, Field(alias="copy")] = None
    key: str | None = None
    anchor: Annotated[str, Field(pattern=r"^file:.+$")] | None = None
    stale: Annotated[float, BeforeValidator(duration), Field(ge=0, le=MAX_STALE_S)] = 3600.0

    @field_validator("walk", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _one_of_them(self) -> ResolverSection:
        chosen = [bool(self.walk), self.recursive is not None, self.copied is not None]
        if sum(chosen) > 1:
            raise ValueError("walk, recursive and copy exclude each other; choose one")
        if self.key is not None and self.copied is None:
            raise ValueError("a key is for copy; leave it out")
        return self

    def source(
        self,
        origin: str,
        zones: Sequence[str],
        name_server: Address,
        key: TsigKey | None,
        anchors: Anchors | None,
        clock: Clock,
    ) -> Source:
        """The carrier that is chosen, started. zones: what `copy` holds. name_server: the registry's own."""
        source: Source
        signed = anchors is not None
        if self.recursive is not None:
            source = Recursive(self.recursive.host, self.recursive.port, clock, dnssec=signed)
        elif self.copied is not None:
            source = copies = Copies(self.copied.host, self.copied.port, zones, clock, key)
            copies.start()
        else:
            servers = [(each.host, each.port) for each in self.walk or (name_server,)]
            source = Authorities(origin, servers, clock, dnssec=signed)
        return source if anchors is None else Validator(source, anchors, clock)
