"""Apps and sidecars that come and go: what ends with an app, and what a sidecar that is back is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

import pytest
from outrigger import Balancer, Client, Outcome, State, Unavailable, proxy_header
from outrigger.sync import Client as BlockingClient
from sidecar import CLUSTER, Sidecar, named
from test_sidecar_calls import seen
from waiting import eventually, until

APP = """
import sys, time
from outrigger.sync import Client
address, cluster, a, b = sys.argv[1:]
lease = Client(address).lease("app")
lease.__enter__()
lease.set_weight(cluster, a, 0)
lease.drain(cluster, a)
lease.set_affinity(cluster, "key", b)
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def app(sidecar: Sidecar) -> Iterator[subprocess.Popen[str]]:
    """A process that has orders of every kind under its lease."""
    command = [sys.executable, "-c", APP, sidecar.control, CLUSTER, *sidecar.backends]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_an_app_that_is_killed(sidecar: Sidecar, how: signal.Signals) -> None:
    a, b = sidecar.backends
    with BlockingClient(sidecar.control) as client, app(sidecar) as process:
        backend = named(client.clusters(), a)
        assert (backend.state, backend.effective_weight) == (State.DRAINING, 0)
        assert {(order.kind, order.leased) for order in backend.orders} == {("weight", True), ("drain", True)}
        assert client.affinity(CLUSTER, "key").pinned_to == b
        os.kill(process.pid, how)
        killed = time.monotonic()

        def over() -> bool:
            backend = named(client.clusters(), a)
            gone = backend.orders == () and backend.state is State.READY
            return gone and client.affinity(CLUSTER, "key").pinned_to == ""

        until(over)
        assert time.monotonic() - killed < 1
    spread = sidecar.spread()
    assert abs(spread[a] - spread[b]) <= 4


async def test_a_lease_ends_with_its_block(sidecar: Sidecar) -> None:
    a, _ = sidecar.backends
    async with Client(sidecar.control) as client:
        async with client.lease("deploy") as lease:
            backend = await lease.scale_weight(CLUSTER, a, 0.5)
            assert backend.effective_weight == 0.5
            started = time.monotonic()
        # The sidecar has said so; nobody waited in vain.
        assert time.monotonic() - started < 1
        view = await seen(client, lambda view: view.backends[a].effective_weight == 1)
        assert view.backends[a].orders == ()
        assert time.monotonic() - started < 1


async def test_a_sidecar_that_restarts_is_told_again(sidecar: Sidecar) -> None:
    a, b = sidecar.backends
    keys = [f"session-{number}" for number in range(200)]
    async with Client(sidecar.control) as client, client.lease("app") as lease:
        await lease.set_weight(CLUSTER, a, 0)
        await asyncio.gather(*(lease.set_affinity(CLUSTER, key, a) for key in keys))
        sidecar.kill()
        with pytest.raises(Unavailable):
            await lease.set_weight(CLUSTER, b, 3)
        await asyncio.to_thread(sidecar.start)

        async def told() -> bool:
            backend = named(await client.clusters(), a)
            return backend.effective_weight == 0 and backend.pins == len(keys)

        await eventually(told)
        assert await asyncio.to_thread(sidecar.get, keys[0]) == a
        assert set(await asyncio.to_thread(sidecar.spread)) == {b}
        await lease.clear_weight(CLUSTER, a)
    async with Client(sidecar.control) as client:
        (cluster,) = await client.clusters()
        assert [(backend.orders, backend.pins) for backend in cluster.backends] == [((), 0)] * 2


async def test_a_watch_goes_on_when_the_sidecar_is_back(sidecar: Sidecar) -> None:
    a, b = sidecar.backends
    async with Client(sidecar.control) as client, aclosing(client.watch(CLUSTER)) as views:
        first = await anext(views)
        assert set(first.backends) == {a, b}
        await client.set_weight(CLUSTER, a, 5, ttl=60)
        second = await asyncio.wait_for(anext(views), 5)
        assert (second.instance, second.backends[a].effective_weight) == (first.instance, 5)
        assert second.version > first.version
        following = asyncio.ensure_future(anext(views))
        await asyncio.to_thread(sidecar.restart)
        third = await asyncio.wait_for(following, 5)
        assert third.instance != first.instance
        assert third.backends[a].effective_weight == 1


async def test_direct_mode_picks_as_the_sidecar_does(sidecar: Sidecar) -> None:
    a, b = sidecar.backends
    async with Client(sidecar.control) as client, Balancer(client, CLUSTER) as balancer:
        assert {(await balancer.pick()).name for _ in range(100)} == {a, b}
        await client.set_affinity(CLUSTER, "key", b, ttl=60)
        assert {(await balancer.pick("key")).name for _ in range(20)} == {b}
        # What the app alone has seen keeps it from a backend.
        for _ in range(5):
            balancer.report(balancer.view.backends[a], Outcome.CONNECT_FAILED)
        await seen(client, lambda view: view.backends[a].state is State.EJECTED)
        await eventually(lambda: not balancer.view.backends[a].share)
        assert {(await balancer.pick()).name for _ in range(100)} == {b}
        sidecar.kill()
        assert {(await balancer.pick(key)).name for key in (None, "key", "other")} == {b}


def test_a_tcp_connection_goes_where_its_key_is_pinned(sidecar: Sidecar) -> None:
    a, b = sidecar.backends
    with BlockingClient(sidecar.control) as client:
        for backend in (a, b, a):
            client.set_affinity(CLUSTER, "key", backend, ttl=60)
            assert {over_tcp(sidecar, "key") for _ in range(5)} == {backend}


def over_tcp(sidecar: Sidecar, key: str) -> str:
    with socket.create_connection(sidecar.raw, timeout=5) as connection:
        connection.sendall(proxy_header(key, connection.getsockname(), connection.getpeername()))
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return answer.read().rpartition(b"\r\n\r\n")[2].decode()
