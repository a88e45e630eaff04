"""Whom the registry of a `federation.yaml` admits, and of whom it is a member itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import numpy as np

from gateway.configuration.config import FederationConfig
from registry.clock import Clock
from registry.errors import ConfigError
from registry.geometry.cell import Naming
from registry.http.client import RegistryClient
from registry.keys import SigningKey, public_from_text
from registry.likeness.fingerprint import encode
from registry.publishing.enrolment import Enrolment
from registry.publishing.grant import Ball, Grant
from registry.publishing.lease import Lease
from registry.publishing.member import Member
from registry.publishing.membership import Membership
from registry.publishing.publisher import Publisher


def members(config: FederationConfig) -> list[Member]:
    """Networks, and registries that run parts of a domain: the operator's word on each.

    Their keys are in federation.yaml, or in data_dir/keys/NAME.pub. Raises ConfigError, SituationError (a bound).
    """
    admitted = []
    for name, each in config.networks.items():
        key = _key(config, f"networks.{name}", name, each.key)
        admitted.append(Member(name, each.domain, key, (each.asked_by(key),), each.engine.kind))
    for name, section in config.registry.subtrees.items():
        ball = None
        if section.within is not None:
            centre = encode(config.schemas()[section.domain], section.within.situation).astype(np.float64)
            ball = Ball(centre, section.within.radius)
        key = _key(config, f"registry.subtrees.{name}", name, section.key)
        grant = Grant(f"{section.domain}.{section.origin}", ball)
        admitted.append(Member(name, section.domain, key, (), "registry", grant))
    return admitted


@asynccontextmanager
async def memberships(
    config: FederationConfig, enrolment: Enrolment, publisher: Publisher, clock: Clock
) -> AsyncIterator[list[Membership]]:
    """What keeps this registry a member of its parents, for as long as the context lasts; its keys are in
    data_dir/keys/NAME."""
    section = config.registry
    async with aiohttp.ClientSession() as session:
        found = []
        for domain, parent in section.parents.items():
            key = SigningKey.from_file(config.data_dir / "keys" / parent.name)
            client = RegistryClient(session, f"http://{parent.registry}")
            lease = Lease(client, domain, parent.name, key, clock, section.lease)
            naming = Naming(domain, section.origin)
            found.append(Membership(parent.name, naming, enrolment, publisher, lease, clock))
        yield found


def _key(config: FederationConfig, place: str, name: str, text: str | None) -> bytes:
    if text is None:
        path = config.data_dir / "keys" / f"{name}.pub"
        try:
            text = path.read_text("ascii")
        except OSError:
            raise ConfigError(
                f"{config.file}: {place}: no public key; start it once with `kindred up`, "
                f"or give `key:`, or put it in {path}"
            ) from None
    return public_from_text(text)
