"""One node of a DHT in this process, by libtorrent: items are put and got, and what became of each is known.

libtorrent puts in silence: a value that is too large, or that no node took, shows only in the alert that follows. So
every put waits for its alert, and counts the nodes that took it. What comes back was verified by libtorrent, against
the key (mutable) or the name (immutable); items that were forged never reach the caller.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha512
from random import SystemRandom
from typing import Any, Final

import libtorrent

from regional.engines.dht.item import checked
from regional.engines.dht.lookup import LONGEST_S, Lookups, Waiter
from registry.errors import Unavailable
from registry.keys import SigningKey

COPIES: Final = 4  # of the 8 nodes nearest to an item, how many must have taken it
AT_ONCE: Final = 16  # lookups under way; many more overrun the nodes' receive buffers, and each loss costs a second
TRIES: Final = 3
JOIN_S: Final = 5.0
SLOW_S: Final = 1.0  # a lookup that takes longer waits for a silent node, and is no burden any more
LOOKUP_S: Final = LONGEST_S
_PEERS: Final = 8  # nodes that a new one is told of
_POLL_S: Final = 0.02
_BUFFER: Final = 1 << 20  # bytes of a socket's receive buffer, where the system allows it
_AMPLE: Final = 1_000_000  # libtorrent multiplies some of these by ten, in 32 bits

Server = tuple[str, int]


def settings(listen: str, guest: bool = False) -> Any:
    """libtorrent as a DHT node and nothing else, at `listen` (HOST:PORT); it knows nobody yet.

    guest: it keeps nothing for others, and they do not remember it (BEP 43). One that puts anything is remembered all
    the same, and has to answer.
    """
    alerts = libtorrent.alert.category_t
    return {
        "listen_interfaces": listen,
        "alert_mask": alerts.dht_notification | alerts.error_notification | alerts.status_notification,
        "alert_queue_size": 100_000,
        "enable_dht": True,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_tcp": False,
        "enable_outgoing_tcp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "dht_bootstrap_nodes": "",  # by default some on the internet
        "dht_read_only": guest,
        "dht_max_fail_count": 2,  # of 20: what is silent twice is forgotten
        "dht_restrict_search_ips": False,  # else one node of a network of addresses is asked
        "dht_restrict_routing_ips": False,
        "dht_ignore_dark_internet": False,
        "dht_prefer_verified_node_ids": False,
        "dht_upload_rate_limit": 100 * _AMPLE,
        "dht_block_ratelimit": _AMPLE,
        "dht_max_dht_items": _AMPLE,
        "dht_item_lifetime": 7200,  # seconds; BEP 44
        "recv_socket_buffer_size": _BUFFER,
        "send_socket_buffer_size": _BUFFER,
    }


class Secret:
    """What signs mutable items: a key in libtorrent's form, expanded (RFC 8032, section 5.1.5)."""

    def __init__(self, key: SigningKey) -> None:
        expanded = bytearray(sha512(key.seed).digest())
        expanded[0] &= 248
        expanded[31] = expanded[31] & 63 | 64
        self.public = key.public
        self.expanded = bytes(expanded)


class DhtNode:
    """A node that joins through `servers`, known as host and port. listen: HOST:PORT, port 0 for any.

    Of several who open it the last to close it ends it; a lasting one goes on answering others until `leave`. A node
    that is gone costs others 15 s for each lookup that comes near its place, until they have forgotten it.
    """

    def __init__(
        self, servers: Sequence[Server], listen: str = "127.0.0.1:0", guest: bool = False, lasting: bool = False
    ) -> None:
        self._servers = tuple(servers)
        self._settings = settings(listen, guest)
        self._lasting = lasting
        self._session: Any = None
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._users = 0
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._known = 0  # nodes in the routing table
        self._lookups = Lookups()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._opened().listen_port())

    async def open(self, patience_s: float = JOIN_S) -> None:
        """Join, if it has not; hear what comes. Raises Unavailable where no node answers."""
        if not self._users:
            self._opening, self._slots, self._lookups = asyncio.Lock(), asyncio.Semaphore(AT_ONCE), Lookups()
        self._users += 1
        try:
            async with self._opening:
                if self._session is None:
                    self._known = 0
                    self._session = await asyncio.to_thread(lambda: libtorrent.session(self._settings))
                if self._pair is None:
                    self._pair = socket.socketpair()
                    for each in self._pair:
                        each.setblocking(False)
                    self._session.set_alert_fd(self._pair[1].fileno())
                asyncio.get_running_loop().add_reader(self._pair[0].fileno(), self._read)
                self._read()  # what came before would never be told
                await self._join(patience_s)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Hear no more, when nobody else does."""
        self._users -= 1
        if not self._users:
            if self._pair is not None:
                asyncio.get_running_loop().remove_reader(self._pair[0].fileno())
            for waiter in self._lookups.waiting:
                waiter.fail(Unavailable("the DHT node is closed"))
            if not self._lasting:
                await asyncio.to_thread(self.leave)

    def leave(self) -> None:
        """End it; this waits for libtorrent's threads."""
        self._session = None
        pair, self._pair = self._pair, None
        for each in pair or ():
            each.close()

    async def put_mutable(self, secret: Secret, salt: bytes, value: bytes) -> None:
        """Have the nodes keep `value` in place of what was there. Raises Unavailable, TooLarge."""
        checked(value)
        key = (libtorrent.dht_put_alert, secret.public, salt)
        await self._put(key, lambda: self._opened().dht_put_mutable_item(secret.expanded, secret.public, value, salt))

    async def put_immutable(self, name: bytes, value: bytes) -> None:
        """Have the nodes keep `value`, whose name is `name`. Raises Unavailable, TooLarge."""
        checked(value)
        await self._put((libtorrent.dht_put_alert, name), lambda: self._opened().dht_put_immutable_item(value))

    async def get_mutable(
        self, public: bytes, salt: bytes, enough: Callable[[bytes], bool] | None = None
    ) -> bytes | None:
        """The newest value that the nodes have; None where they have none. enough: newest or not, this one will do."""
        key = (libtorrent.dht_mutable_item_alert, public, salt)
        for _ in range(TRIES):
            found = await self._call(key, lambda: self._opened().dht_get_mutable_item(public, salt), enough)
            if found is not None:
                return bytes(found)
        return None

    async def get_immutable(self, name: bytes) -> bytes | None:
        """The value of this name; None where no node has it."""
        for _ in range(TRIES):
            found = await self._look_up(name)
            if found is not None:
                return bytes(found)
        return None

    def meet(self) -> None:
        """Be told of the servers again: nodes that were silent are forgotten."""
        for server in SystemRandom().sample(self._servers, min(_PEERS, len(self._servers))):
            self._opened().add_dht_node(server)

    async def _join(self, patience_s: float) -> None:
        """Until some node has answered; then look for a place, which makes nodes known on the way.

        Once they are enough that is not waited for: it may come by one that is gone.
        """
        end = asyncio.get_running_loop().time() + patience_s
        while not self._known:
            if asyncio.get_running_loop().time() > end:
                where = ", ".join(f"{host}:{port}" for host, port in self._servers)
                raise Unavailable(f"no DHT node answers at {where}")
            self.meet()
            for _ in range(10):
                self._opened().post_dht_stats()
                await asyncio.sleep(_POLL_S)
                if self._known:
                    break
        place = asyncio.create_task(self._look_up(os.urandom(20)))
        try:
            while self._known < _PEERS and not place.done():
                self._opened().post_dht_stats()
                await asyncio.wait({place}, timeout=_POLL_S)
        finally:
            place.cancel()
            await asyncio.gather(place, return_exceptions=True)

    async def _look_up(self, name: bytes) -> Any:
        key = (libtorrent.dht_immutable_item_alert, name)
        return await self._call(key, lambda: self._opened().dht_get_immutable_item(libtorrent.sha1_hash(name)))

    async def _put(self, key: tuple[object, ...], send: Callable[[], object]) -> None:
        taken = 0
        for _ in range(TRIES):
            found = await self._call(key, send)
            taken = int(found or 0)
            if taken >= COPIES:
                return
            self.meet()
            await asyncio.sleep(_POLL_S)
        raise Unavailable(f"{taken} nodes of the DHT have taken it, {COPIES} are wanted; deposit it again")

    async def _call(
        self, key: tuple[object, ...], send: Callable[[], object], enough: Callable[[bytes], bool] | None = None
    ) -> Any:
        """What the alerts for `key` say. Raises Unavailable where none comes."""
        waiter = Waiter(enough)
        put, dated = key[0] is libtorrent.dht_put_alert, key[0] is libtorrent.dht_mutable_item_alert
        try:
            async with self._slots:
                self._lookups.enter(key, waiter, send, put, dated)
                await asyncio.wait({waiter.future}, timeout=SLOW_S)
            async with asyncio.timeout(LOOKUP_S):
                return await waiter.future
        except TimeoutError:
            raise Unavailable("the DHT has not answered in time") from None
        finally:
            self._lookups.leave(key, waiter)

    def _read(self) -> None:
        if self._session is None or self._pair is None:
            return
        with suppress(BlockingIOError):
            self._pair[0].recv(65536)
        for alert in self._session.pop_alerts():
            if isinstance(alert, libtorrent.dht_put_alert):
                key: tuple[object, ...] = (libtorrent.dht_put_alert, alert.public_key, alert.salt)
                if not any(alert.public_key):
                    key = (libtorrent.dht_put_alert, alert.target.to_bytes())
                self._lookups.tell(key, alert.num_success, 0, True)
            elif isinstance(alert, libtorrent.dht_mutable_item_alert):
                key = (libtorrent.dht_mutable_item_alert, alert.key, alert.salt)
                self._lookups.tell(key, _value(alert, alert.seq > 0), alert.seq, alert.authoritative)
            elif isinstance(alert, libtorrent.dht_immutable_item_alert):
                key = (libtorrent.dht_immutable_item_alert, alert.target.to_bytes())
                self._lookups.tell(key, _value(alert, True), 0, True)
            elif isinstance(alert, libtorrent.dht_stats_alert):
                self._known = sum(bucket["num_nodes"] for bucket in alert.routing_table)

    def _opened(self) -> Any:
        if self._session is None:
            raise Unavailable("the DHT node is not open")
        return self._session


def _value(alert: Any, there: bool) -> bytes | None:
    """The item of an alert; None where there is none, or it is no string of octets."""
    item = alert.item
    return item if there and type(item) is bytes and item else None
