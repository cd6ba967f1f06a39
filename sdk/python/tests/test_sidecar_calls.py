"""Every call, against the sidecar itself: what it brings about, and how it is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from outrigger import (
    Client,
    Denied,
    InvalidArgument,
    NotFound,
    Outcome,
    Reason,
    State,
    View,
)
from sidecar import CLUSTER, Backend, Sidecar, named
from waiting import eventually

NOBODY = "192.0.2.1:80"


@pytest.fixture
async def client(sidecar: Sidecar) -> AsyncIterator[Client]:
    async with Client(sidecar.control) as client:
        yield client


async def seen(client: Client, holds: Callable[[View], bool]) -> View:
    """The first view of which that is true."""

    async def look() -> View:
        async with aclosing(client.watch(CLUSTER)) as views:
            async for view in views:
                if holds(view):
                    return view
        raise AssertionError("a watch has no end")

    return await asyncio.wait_for(look(), 10)


async def test_clusters(client: Client, sidecar: Sidecar) -> None:
    (cluster,) = await client.clusters()
    assert (cluster.name, cluster.policy, cluster.panic) == (CLUSTER, "round_robin", False)
    assert sorted(b.name for b in cluster.backends) == sorted(sidecar.backends)
    a = cluster.backends[0]
    assert (a.state, a.reason, a.priority, a.source) == (State.READY, "", 0, "static")
    assert (a.configured_weight, a.effective_weight, a.orders, a.pins) == (1, 1, (), 0)
    assert await client.clusters(CLUSTER) == [cluster]


async def test_a_weight_counts_until_it_is_cleared(client: Client, sidecar: Sidecar) -> None:
    a, b = sidecar.backends
    backend = await client.set_weight(CLUSTER, a, 0, ttl=60, owner="deploy")
    assert (backend.name, backend.configured_weight, backend.effective_weight) == (a, 1, 0)
    (order,) = backend.orders
    assert (order.owner, order.kind, order.value, order.leased) == ("deploy", "weight", 0, False)
    assert order.expires_at is not None
    left = order.expires_at - datetime.now(timezone.utc)
    assert timedelta(seconds=55) < left <= timedelta(seconds=60.5)
    assert set(sidecar.spread()) == {b}
    # Another owner's orders are not this one's to clear.
    assert (await client.clear_weight(CLUSTER, a)).effective_weight == 0
    assert (await client.clear_weight(CLUSTER, a, owner="deploy")).effective_weight == 1
    assert set(sidecar.spread()) == {a, b}


async def test_a_weight_ends_at_its_ttl(client: Client, sidecar: Sidecar) -> None:
    a, _ = sidecar.backends
    started = time.monotonic()
    await client.set_weight(CLUSTER, a, 7, ttl=0.5)
    await seen(client, lambda view: view.backends[a].effective_weight == 1)
    assert 0.3 <= time.monotonic() - started <= 1.5


async def test_factors_multiply(client: Client, sidecar: Sidecar) -> None:
    a, _ = sidecar.backends
    await client.set_weight(CLUSTER, a, 8, ttl=60, owner="one")
    backend = await client.scale_weight(CLUSTER, a, 0.5, ttl=60, owner="two")
    assert (backend.configured_weight, backend.effective_weight) == (1, 4)
    assert [(o.kind, o.value) for o in backend.orders] == [("weight", 8), ("factor", 0.5)]


async def test_a_pinned_key_goes_where_it_is_pinned(client: Client, sidecar: Sidecar) -> None:
    a, b = sidecar.backends
    for backend in (a, b):
        assert await client.set_affinity(CLUSTER, "key", backend, ttl=60, owner="app") == backend
        assert {sidecar.get("key") for _ in range(10)} == {backend}
    affinity = await client.affinity(CLUSTER, "key")
    assert (affinity.backend, affinity.reason, affinity.pinned_to) == (b, Reason.PIN, b)
    assert affinity.pin is not None
    assert (affinity.pin.kind, affinity.pin.owner) == ("pin", "app")
    # Where it lives now, it stays.
    assert await client.set_affinity(CLUSTER, "key", ttl=60) == b
    assert await client.set_affinity(CLUSTER, "new", ttl=60) in (a, b)
    assert await client.clear_affinity(CLUSTER, "key") is True
    assert await client.clear_affinity(CLUSTER, "key") is False
    affinity = await client.affinity(CLUSTER, "key")
    assert (affinity.reason, affinity.pinned_to, affinity.pin) == (Reason.POLICY, "", None)


async def test_a_backend_drains_and_resumes(
    client: Client, sidecar: Sidecar, backends: list[Backend]
) -> None:
    a, b = sidecar.backends
    await client.set_weight(CLUSTER, b, 0, ttl=60)
    slow = asyncio.ensure_future(asyncio.to_thread(sidecar.get, None, "/slow"))
    await until_in_flight(client, a)
    await client.clear_weight(CLUSTER, b)

    backend = await client.drain(CLUSTER, a, ttl=60)
    assert (backend.state, backend.share, backend.drained) == (State.DRAINING, 0, False)
    assert backend.drain_deadline is not None
    assert set(sidecar.spread()) == {b}
    waiting = asyncio.ensure_future(client.wait_drained(CLUSTER, a))
    await asyncio.wait({waiting}, timeout=0.3)
    assert not waiting.done()
    backends[0].go_on.set()
    assert await slow == a
    drained = await asyncio.wait_for(waiting, 5)
    assert (drained.forced, drained.resumed) == (0, False)

    assert (await client.resume(CLUSTER, a)).state is State.READY
    assert set(sidecar.spread()) == {a, b}


async def until_in_flight(client: Client, name: str) -> None:
    async def in_flight() -> bool:
        return named(await client.clusters(), name).in_flight > 0

    await eventually(in_flight)


async def test_what_is_left_of_a_drain_is_ended_by_force(
    client: Client, sidecar: Sidecar, backends: list[Backend]
) -> None:
    a, b = sidecar.backends
    await client.set_weight(CLUSTER, b, 0, ttl=60)
    slow = asyncio.ensure_future(asyncio.to_thread(sidecar.get, None, "/slow"))
    await until_in_flight(client, a)
    backends[1].go_on.set()
    await client.drain(CLUSTER, a, timeout=0.2, ttl=60)
    drained = await client.wait_drained(CLUSTER, a)
    assert (drained.forced, drained.resumed) == (1, False)
    # The sidecar has tried it again elsewhere.
    assert await slow == b


async def test_who_waits_for_a_drain_that_is_called_off_is_told(
    client: Client, sidecar: Sidecar, backends: list[Backend]
) -> None:
    a, b = sidecar.backends
    await client.set_weight(CLUSTER, b, 0, ttl=60)
    slow = asyncio.ensure_future(asyncio.to_thread(sidecar.get, None, "/slow"))
    await until_in_flight(client, a)
    await client.drain(CLUSTER, a, ttl=60)
    waiting = asyncio.ensure_future(client.wait_drained(CLUSTER, a))
    await asyncio.wait({waiting}, timeout=0.2)
    await client.resume(CLUSTER, a)
    assert (await asyncio.wait_for(waiting, 5)).resumed is True
    backends[0].go_on.set()
    await slow


async def test_outcomes_of_the_app_eject_a_backend(client: Client, sidecar: Sidecar) -> None:
    a, b = sidecar.backends
    await client.report(CLUSTER, a, Outcome.SUCCESS, latency=0.25)
    assert named(await client.clusters(), a).ewma == pytest.approx(0.25, rel=0.01)
    for _ in range(5):
        await client.report(CLUSTER, a, Outcome.RESET)
    await seen(client, lambda view: view.backends[a].state is State.EJECTED)
    assert set(sidecar.spread()) == {b}


async def test_events_say_what_has_happened(client: Client, sidecar: Sidecar) -> None:
    a, _ = sidecar.backends
    latest = (await client.events()).latest
    assert (await client.events(CLUSTER, after=latest)).events == ()
    waiting = asyncio.ensure_future(client.events(CLUSTER, after=latest, wait=10))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    await client.drain(CLUSTER, a, ttl=60, owner="deploy")
    events = await asyncio.wait_for(waiting, 5)
    event = events.events[0]
    assert (event.cluster, event.backend, event.kind) == (CLUSTER, a, "draining")
    assert "deploy" in event.cause
    assert event.id > latest and events.latest >= event.id
    assert abs(datetime.now(timezone.utc) - event.at) < timedelta(seconds=10)


async def test_a_pick_is_explained(client: Client, sidecar: Sidecar) -> None:
    a, b = sidecar.backends
    await client.drain(CLUSTER, a, ttl=60)
    explained = await client.explain(CLUSTER)
    assert (explained.picked, explained.reason) == (b, Reason.POLICY)
    why = {e.backend: (e.state, e.share) for e in explained.backends}
    assert why == {a: (State.DRAINING, 0), b: (State.READY, 1)}
    await client.set_affinity(CLUSTER, "key", b, ttl=60)
    explained = await client.explain(CLUSTER, "key")
    assert explained.reason is Reason.PIN and b in explained.summary


# Every call that names a cluster, and those that name a backend.
OF_CLUSTERS: dict[str, Callable[[Client, str], Awaitable[Any]]] = {
    "clusters": lambda client, cluster: client.clusters(cluster),
    "watch": lambda client, cluster: anext(client.watch(cluster)),
    "affinity": lambda client, cluster: client.affinity(cluster, "key"),
    "clear_affinity": lambda client, cluster: client.clear_affinity(cluster, "key"),
    "events": lambda client, cluster: client.events(cluster),
    "explain": lambda client, cluster: client.explain(cluster),
}
OF_BACKENDS: dict[str, Callable[[Client, str, str], Awaitable[Any]]] = {
    "set_weight": lambda client, *names: client.set_weight(*names, 1, ttl=1),
    "scale_weight": lambda client, *names: client.scale_weight(*names, 1, ttl=1),
    "clear_weight": lambda client, *names: client.clear_weight(*names),
    "set_affinity": lambda client, *names: client.set_affinity(names[0], "key", names[1], ttl=1),
    "drain": lambda client, *names: client.drain(*names, ttl=1),
    "resume": lambda client, *names: client.resume(*names),
    "wait_drained": lambda client, *names: client.wait_drained(*names),
    "report": lambda client, *names: client.report(*names, Outcome.SUCCESS),
}


async def test_unknown_names_are_told(client: Client, sidecar: Sidecar) -> None:
    for of_cluster in OF_CLUSTERS.values():
        with pytest.raises(NotFound) as raised:
            await of_cluster(client, "nope")
        assert (raised.value.kind, raised.value.name) == ("cluster", "nope")
    for of_backend in OF_BACKENDS.values():
        with pytest.raises(NotFound) as raised:
            await of_backend(client, "nope", sidecar.backends[0])
        assert (raised.value.kind, raised.value.name) == ("cluster", "nope")
        with pytest.raises(NotFound) as raised:
            await of_backend(client, CLUSTER, NOBODY)
        assert (raised.value.kind, raised.value.name) == ("backend", NOBODY)


async def test_what_is_wrong_is_told_by_field(client: Client, sidecar: Sidecar) -> None:
    a = sidecar.backends[0]
    minute: dict[str, Any] = {"ttl": 60}
    wrong: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
        ("weight", lambda: client.set_weight(CLUSTER, a, 70_000, **minute)),
        ("factor", lambda: client.scale_weight(CLUSTER, a, 1001, **minute)),
        ("factor", lambda: client.scale_weight(CLUSTER, a, -1, **minute)),
        ("factor", lambda: client.scale_weight(CLUSTER, a, float("nan"), **minute)),
        ("ttl", lambda: client.set_weight(CLUSTER, a, 1, ttl=0)),
        ("ttl", lambda: client.scale_weight(CLUSTER, a, 1, ttl=86_401)),
        ("ttl", lambda: client.set_affinity(CLUSTER, "key", a, ttl=-1)),
        ("ttl", lambda: client.drain(CLUSTER, a, ttl=0)),
        ("timeout", lambda: client.drain(CLUSTER, a, timeout=-1, **minute)),
        ("owner", lambda: client.set_weight(CLUSTER, a, 1, owner="admin", **minute)),
        ("owner", lambda: client.drain(CLUSTER, a, owner="with space", **minute)),
        ("key", lambda: client.set_affinity(CLUSTER, "", a, **minute)),
        ("key", lambda: client.set_affinity(CLUSTER, "k" * 257, a, **minute)),
        ("key", lambda: client.affinity(CLUSTER, "")),
        ("count", lambda: client.report(CLUSTER, a, Outcome.RESET, count=1001)),
        ("latency", lambda: client.report(CLUSTER, a, Outcome.SUCCESS, latency=-1)),
        ("wait", lambda: client.events(wait=-1)),
        ("owner", lambda: client.lease("fleet").__aenter__()),
    ]
    before = await client.clusters()
    for number, (field, call) in enumerate(wrong):
        try:
            await call()
        except InvalidArgument as error:
            assert [v.field for v in error.violations] == [field], error
            assert error.violations[0].description
        else:
            pytest.fail(f"number {number}, a wrong {field}, is accepted")
    assert await client.clusters() == before, "nothing has changed"


async def test_orders_of_all_owners_are_the_administrators(client: Client, sidecar: Sidecar) -> None:
    a = sidecar.backends[0]
    for call in (client.clear_weight(CLUSTER, a, all=True), client.resume(CLUSTER, a, all=True)):
        with pytest.raises(Denied):
            await call
