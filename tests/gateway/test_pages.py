"""Pages from a network that may lie: every one is what one signed index says, or the network has failed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fetching.atoms import nearest
from gateway.fetching.pages import INDEX_S, Pages
from gateway.planning.merge import Merge
from regional.client import Failed, NearestRequest, TimedOut
from regional.cohort import Cohort
from regional.packets.packet import identity_digest
from regional.releasing.atom import Atom, step_of
from regional.releasing.atombatch import AtomBatch
from regional.releasing.epoch import EpochIndex, PageEntry, TableEntry
from regional.releasing.page import Home, digest_of, page_bytes, read_page
from registry.clock import ManualClock
from registry.geometry.region import squared_distances
from registry.keys import SigningKey, public_text
from registry.resolving.lookup import NetworkInfo
from registry.zones.texts import NetworkText
from tests.regional.persons import SCHEMA, D

KEY = SigningKey(bytes(32))
OTHER = SigningKey(bytes([1]) * 32)
LEAST = 5
OWNER = "one.net.ward.kindred.internal."
HOME = Home("ward", "one", SCHEMA.space, D, step_of(SCHEMA))


def atoms(seed: int, n: int, first: int = 1) -> list[Atom]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(first, first + n):
        size = int(rng.integers(LEAST, 3 * LEAST))
        figures = {"cost": Cohort.of((float(rng.normal()), 1.0) for _ in range(size)).figures()}
        made.append(Atom(number, "ab"[number % 2], size, float(size), rng.integers(-9, 9, D), figures))  # type: ignore[arg-type]
    return made


def info(serial: int = 1, endpoints: tuple[str, ...] = ("http://one",)) -> NetworkInfo:
    text = NetworkText(
        serial=serial,
        issued=1.0,
        lease_s=60.0,
        packets=1,
        uncovered=0,
        key=public_text(KEY.public),
        engine="e",
        lapsed=False,
    )
    return NetworkInfo(endpoints, text)


class Site:
    """What a network shows, instead of one; `edit` changes the index before it is signed."""

    def __init__(self, groups: list[list[Atom]], epoch: int = 1, serial: int = 1, **edit: Any) -> None:
        bodies = [page_bytes(each, HOME) for each in groups]
        self.bodies = {digest_of(body): body for body in bodies}
        entries = tuple(
            PageEntry(digest_of(body), len(body), len(each), read_page(body, HOME, LEAST).counts())
            for body, each in zip(bodies, groups, strict=True)
        )
        table = b"a table"
        self.bodies[digest_of(table)] = table
        tables = {"moments": TableEntry(digest_of(table), len(table))}
        made = EpochIndex(
            "ward",
            "one",
            SCHEMA.space.hex(),
            SCHEMA.digest.hex(),
            epoch,
            serial,
            1.0,
            LEAST,
            HOME.step,
            entries,
            tables,
        )
        self.index = replace(made, **edit)
        self.document: dict[str, Any] = self.index.document(KEY)


class Client:
    """Serves a site, and writes down what was asked for."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.asked: list[str] = []
        self.wait: asyncio.Event | None = None

    async def fetch(self, endpoint: str, path: str, accept: str, most: int, timeout_s: float) -> bytes:  # noqa: ARG002
        assert endpoint.startswith("http://")
        self.asked.append(path)
        if self.wait is not None:
            await self.wait.wait()
        if path == "/v1/atoms":
            return orjson.dumps(self.site.document)
        body = self.site.bodies.get(path.removeprefix("/v1/atoms/"))
        if body is None or len(body) > most:
            raise Failed("HTTP 404")
        return body

    async def close(self) -> None:
        pass


def pages(site: Site, limit: int = 10**6) -> tuple[Pages, Client, ManualClock]:
    client, clock = Client(site), ManualClock(1000.0)
    return Pages(client, clock, limit), client, clock  # type: ignore[arg-type]


async def take(of: Pages, serial: int = 1) -> AtomBatch:
    return (await of.edition(OWNER, info(serial), "ward", SCHEMA, 5.0)).atoms


async def test_all_pages_are_had_once_and_kept() -> None:
    of, client, _ = pages(Site([atoms(1, 3), atoms(2, 4, first=10)]))
    edition = await of.edition(OWNER, info(), "ward", SCHEMA, 5.0)
    assert len(edition.atoms) == 7
    assert edition.tables == {"moments": b"a table"}
    assert len(client.asked) == 4
    assert await take(of) is edition.atoms
    assert len(client.asked) == 4


async def test_a_new_epoch_is_asked_for_when_the_registry_or_the_clock_says_so_and_only_what_is_new_of_it() -> None:
    site = Site([atoms(1, 3), atoms(2, 4, first=10)])
    of, client, clock = pages(site)
    await take(of)
    client.site, client.asked = Site([atoms(1, 3), atoms(3, 2, first=20)], epoch=2, serial=2), []
    assert len(await take(of)) == 7  # nobody has said that there is another
    assert len(await take(of, serial=2)) == 5
    assert len(client.asked) == 2
    client.asked = []
    clock.advance(INDEX_S)
    await take(of, serial=2)
    assert client.asked == ["/v1/atoms"]


def lying() -> list[tuple[str, Site]]:
    good = [atoms(1, 3)]

    def signed_by(key: SigningKey) -> Site:
        site = Site(good)
        site.document = site.index.document(key)
        return site

    def forged(**members: Any) -> Site:
        site = Site(good)
        site.document = {**site.document, **members}
        return site

    swapped = Site(good)
    swapped.bodies = dict(zip(swapped.bodies, reversed(swapped.bodies.values()), strict=True))
    bent = Site(good)
    bent.bodies = {digest: body[:-1] + bytes([body[-1] ^ 1]) for digest, body in bent.bodies.items()}
    absent = Site(good)
    absent.bodies = {}
    few = Site(good, min_cohort=99)
    strange = Site([[replace(each, action="c") for each in atoms(1, 2)]])
    return [
        ("not its own", signed_by(OTHER)),
        ("not its own", forged(epoch=7)),
        ("not its own", forged(pages=[])),
        ("index: pages.0.counts", forged(pages=[{"digest": "a" * 64, "octets": 9, "atoms": 1, "counts": {"a": -5}}])),
        ("not what its digest", swapped),
        ("not what its digest", bent),
        ("404", absent),
        ("99 at least", few),
        ("another domain", Site(good, domain="wards")),
        ("another network", Site(good, network="two")),
        ("another space", Site(good, space="0" * 64)),
        ("another step", Site(good, step=1.0)),
        ("the action 'c'", strange),
        ("more than the", Site(good, pages=(PageEntry("a" * 64, 2**30, 1, {"a": 11}),))),
    ]


@pytest.mark.parametrize(("why", "site"), lying())
async def test_what_is_not_what_the_index_says_is_a_failure(why: str, site: Site) -> None:
    of, _, _ = pages(site)
    with pytest.raises(Failed, match=why):
        await take(of)


async def test_two_epochs_are_never_mixed() -> None:
    """A page of another epoch under this index, an index older than the coverage, an epoch that was seen before."""
    old, new = Site([atoms(1, 3)], epoch=1, serial=1), Site([atoms(2, 3)], epoch=2, serial=2)
    of, client, _ = pages(new)
    with pytest.raises(Failed, match="older than its coverage"):
        await take(of, serial=3)
    new.bodies = old.bodies
    with pytest.raises(Failed, match="404"):
        await take(of, serial=2)
    client.site = Site([atoms(2, 3)], epoch=2, serial=2)
    await take(of, serial=2)
    client.site = replayed = Site([atoms(1, 3)], epoch=1, serial=3)  # signed, and yet set back
    with pytest.raises(Failed, match="epoch 1"):
        await take(of, serial=3)
    assert replayed.index.epoch == 1


async def test_the_next_endpoint_is_asked_where_one_fails() -> None:
    class Half(Client):
        async def fetch(self, endpoint: str, path: str, accept: str, most: int, timeout_s: float) -> bytes:
            if endpoint == "http://bad":
                raise TimedOut("no answer")
            return await super().fetch(endpoint, path, accept, most, timeout_s)

    of = Pages(Half(Site([atoms(1, 3)])), ManualClock(1.0))  # type: ignore[arg-type]
    found = await of.edition(OWNER, info(endpoints=("http://bad", "http://good")), "ward", SCHEMA, 5.0)
    assert len(found.atoms) == 3


async def test_who_waits_no_longer_does_not_end_what_others_wait_for() -> None:
    of, client, _ = pages(Site([atoms(1, 3)]))
    client.wait = asyncio.Event()
    patient = asyncio.create_task(take(of))
    with pytest.raises(TimedOut):
        await of.edition(OWNER, info(), "ward", SCHEMA, 0.001)
    client.wait.set()
    assert len(await patient) == 3
    assert client.asked.count("/v1/atoms") == 1
    await of.close()


async def test_what_is_kept_is_bounded() -> None:
    site = Site([atoms(1, 3)])
    of, client, _ = pages(site, limit=int(1.5 * site.index.octets))
    await take(of)
    two = Site([atoms(1, 3)], network="two")
    body = page_bytes(atoms(1, 3), replace(HOME, network="two"))
    two.index = replace(two.index, pages=(replace(two.index.pages[0], digest=digest_of(body), octets=len(body)),))
    two.bodies[digest_of(body)], two.document = body, two.index.document(KEY)
    client.site = two
    await of.edition("two.net.ward.kindred.internal.", info(), "ward", SCHEMA, 5.0)
    client.site, client.asked = site, []
    await take(of)
    assert client.asked  # it had to go


def request(query: np.ndarray, k: int, **members: Any) -> NearestRequest:
    return NearestRequest("ward", "one", SCHEMA.space, query.astype(np.float32), k, **members)


def batch_of(made: list[Atom]) -> AtomBatch:
    return AtomBatch.of([read_page(page_bytes(made, HOME), HOME, LEAST)], D)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(1, 200), st.booleans())
def test_parts_in_any_order_are_the_whole(seed: int, held: list[int], k: int, per_action: bool) -> None:
    """Atoms of several networks: the nearest that have k persons together, in the one total order, ties and all."""
    rng = np.random.default_rng(seed)
    query = (rng.integers(-3, 3, D) * HOME.step).astype(np.float64)
    networks = {f"n{i}": atoms(seed + i, n, first=1) for i, n in enumerate(held)}
    arms = ("a", "b") if per_action else ("",)
    merge = Merge(query, k, arms)
    for name in rng.permutation(list(networks)).tolist():
        if networks[name]:
            asked = request(query, k, per="action" if per_action else "all", actions=("a", "b"))
            merge.add(name, nearest(batch_of(networks[name]), asked), {})
    expected: list[tuple[str, bytes]] = []
    tied = 0
    for arm in arms:
        pool = [(name, atom) for name, of in networks.items() for atom in of if not arm or atom.action == arm]
        centres = np.array([atom.place * HOME.step for _, atom in pool]).reshape(len(pool), D)
        keys = zip(squared_distances(centres, query), (identity_digest(n, a.id) for n, a in pool), strict=True)
        reached, last = 0, 0.0
        for (distance2, _), row in sorted(zip(keys, range(len(pool)), strict=True)):
            if reached < k:
                expected.append((pool[row][0], pool[row][1].id))
                reached, last = reached + pool[row][1].size, distance2
            elif distance2 == last:
                tied += pool[row][1].size
    found = merge.nearest()
    assert list(zip(found.networks(), found.nodes(), strict=True)) == expected
    assert merge.tied_at_k() == tied
    sizes = {name: {atom.id: atom.size for atom in of} for name, of in networks.items()}
    assert found.sizes().tolist() == [sizes[name][node] for name, node in expected]


def test_more_than_all_that_exist() -> None:
    made = atoms(4, 6)
    query = np.zeros(D)
    merge = Merge(query, 10_000, ("a", "b"))
    merge.add("one", nearest(batch_of(made), request(query, 10_000)), {})
    assert merge.nearest().sizes().sum() == sum(atom.size for atom in made)
    assert merge.kth("a") is None
    assert merge.radius().tolist() == [np.inf, np.inf]


def test_only_within_a_distance() -> None:
    made = atoms(4, 30)
    query = np.zeros(D)
    distances = np.sort(np.linalg.norm([atom.place * HOME.step for atom in made if atom.action == "a"], axis=1))
    for within in (0.0, float(distances[4]), 99.0):
        found = nearest(batch_of(made), request(query, 10_000, within={"a": within}, actions=("a",)))
        assert len(found) == int((distances <= within).sum())
