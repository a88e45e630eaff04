"""The federation that the acceptance tests share: five schemas, real rows, real sockets; one for the whole session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.acceptance.federated import Federated, federated, write_slice
from tests.acceptance.truth import Truth

SLICES = {
    "rhc_icu": 6,
    "rice_farms_indonesia": 2,
    "hdfail_backblaze": 90,
    "nass_cds_crash": 50,
    "aircraft_wildlife_strikes": 40,
}

FEDERATION = """\
version: 1
registry: {dns: @dns, http: @http, coalesce: 20ms, ttl: {apex: 1s, cell: 1s, endpoint: 1s, negative: 1s}}
domains:
  icu.medicine: {schema: $ROOT/examples/domains/icu.yaml}
  rice.agriculture: {schema: $ROOT/examples/domains/rice.yaml}
  drives.machinery: {schema: $ROOT/examples/domains/drives.yaml}
  crash.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
  severity.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
  strikes.vehicles: {schema: $ROOT/examples/domains/strikes.yaml}
  nobody.machinery: {schema: $ROOT/examples/domains/drives.yaml}
  trial.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
networks:
  icu-{cat1}:
    domain: icu.medicine
    process: hall
    listen: @hall
    data: $HOME/rhc_icu.csv
    each: {cat1: [ARF, MOSF w/Sepsis, CHF, COPD]}
  rice-{region}:
    domain: rice.agriculture
    process: hall
    listen: @hall
    data: $HOME/rice_farms_indonesia.csv
    each: {region: [gunungwangi, ciwangi, malausma, langan, sukaambit, wargabinangun]}
  drives-{site}:
    domain: drives.machinery
    process: hall
    listen: @hall
    data: $HOME/hdfail_backblaze.csv
    each: {site: {column: drive, parts: 4}}
  drives-empty: {domain: drives.machinery, process: hall, listen: @hall}
  crash-{site}:
    domain: crash.vehicles
    process: hall
    listen: @hall
    data: $HOME/nass_cds_crash.csv
    each: {site: {column: site_psu, parts: 5}}
  severity-{dvcat}:
    domain: severity.vehicles
    process: hall
    listen: @hall
    data: $HOME/nass_cds_crash.csv
    each: {dvcat: [1-9km/h, 10-24, 25-39, 40-54, 55+]}
  strikes-{state}:
    domain: strikes.vehicles
    process: skies
    listen: @skies
    data: $HOME/aircraft_wildlife_strikes.csv
    each: {state: {column: state, parts: 5}}
  trial: {domain: trial.vehicles, process: hall, listen: @hall}
  trial-data: {domain: trial.vehicles, process: hall, listen: @hall, where: {frontal: 1}}
gateway: {listen: @gateway}
"""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kindred(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federated]:
    """All domains, a few hundred rows each; nobody covers nobody.machinery, drives-empty holds nothing.

    The networks of trial.vehicles are for tests that deposit.
    """
    home = tmp_path_factory.mktemp("kindred")
    for name, every in SLICES.items():
        write_slice(name, home, every)
    async with federated(home, FEDERATION) as running:
        await running.deposit()
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def truths(kindred: Federated) -> dict[str, Truth]:
    """Brute force over the same rows, or over the atoms made of them, by domain."""
    return {domain: await Truth(kindred.config, domain).look(kindred.session) for domain in kindred.config.domains}
