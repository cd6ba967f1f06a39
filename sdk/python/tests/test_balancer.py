"""Direct mode: picks by the view, keys at their homes, and no failure when the sidecar goes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import grpc
import pytest
from fake import Fake, fails
from google.protobuf.duration_pb2 import Duration
from outrigger import Balancer, Client, NotFound, Outcome, PerBackend, Unavailable
from outrigger import homes as homes_module
from outrigger._generated import control_pb2 as pb
from test_watch import A, B, C, backend, full
from waiting import eventually


async def test_picks_follow_the_shares(client: Client, fake: Fake) -> None:
    fake.changes.put_nowait(full(1, backend(A, 1), backend(B, 3), backend(C, 0)))
    async with Balancer(client, "api") as balancer:
        picked = Counter([(await balancer.pick()).name for _ in range(4000)])
        assert set(picked) == {A, B}
        # 3000 expected, with a standard deviation of 27.
        assert 2800 < picked[B] < 3200
        fake.changes.put_nowait(full(2, backend(A, 0), backend(B, 0), backend(C, 1)))
        await eventually(lambda: balancer.view.version == 2)
        assert (await balancer.pick()).name == C


async def test_without_a_backend_to_use_a_pick_says_so(client: Client, fake: Fake) -> None:
    fake.changes.put_nowait(full(1, backend(A, 0)))
    async with Balancer(client, "api") as balancer:
        with pytest.raises(Unavailable, match="cluster `api`: no backend may be used"):
            await balancer.pick()


async def test_it_does_not_begin_without_a_view(client: Client, fake: Fake) -> None:
    fake.behave("WatchCluster", fails(grpc.StatusCode.NOT_FOUND, "no such cluster"))
    with pytest.raises(NotFound):
        async with Balancer(client, "api"):
            pass
    await fake.stop()
    with pytest.raises(Unavailable):
        async with Balancer(client, "api"):
            pass


async def test_the_last_view_stays_without_a_sidecar(fake: Fake) -> None:
    address = await fake.start()
    fake.changes.put_nowait(full(1, backend(A), backend(B)))
    fake.behave("GetAffinity", at(B))
    async with Client(address) as client, Balancer(client, "api") as balancer:
        assert (await balancer.pick("key")).name == B
        await fake.stop()
        fake.break_streams()
        homes = balancer._homes
        await eventually(lambda: homes.known("key") is None)
        # The key stays where it was, and what is not known goes anywhere.
        assert {(await balancer.pick("key")).name for _ in range(20)} == {B}
        assert (await balancer.pick("other")).name in (A, B)
        # Nobody waits for a sidecar that has just been found to be absent.
        started = asyncio.get_running_loop().time()
        for key in range(100):
            await balancer.pick(str(key))
        assert asyncio.get_running_loop().time() - started < 0.5
        await fake.start(address)
        fake.changes.put_nowait(full(1, backend(C), instance="two"))
        await eventually(lambda: C in balancer.view.backends)
        assert (await balancer.pick()).name == C


async def test_a_cluster_that_comes_back_is_followed_again(client: Client, fake: Fake) -> None:
    fake.changes.put_nowait(full(1, backend(A)))
    async with Balancer(client, "api") as balancer:
        fake.behave("WatchCluster", fails(grpc.StatusCode.NOT_FOUND, "no such cluster", times=1))
        fake.break_streams()
        await fake.until(lambda: len(fake.watches) == 3)
        fake.changes.put_nowait(full(1, backend(B)))
        await eventually(lambda: B in balancer.view.backends)


def at(name: str) -> Any:
    async def behaviour(*_: Any) -> pb.GetAffinityResponse:
        return pb.GetAffinityResponse(backend=name)

    return behaviour


async def test_a_key_is_asked_for_once_until_something_may_have_moved_it(
    client: Client, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.changes.put_nowait(full(1, backend(A), backend(B)))
    fake.behave("GetAffinity", at(B))
    async with Balancer(client, "api") as balancer:
        # Many at once too.
        picks = await asyncio.gather(*(balancer.pick("key") for _ in range(50)))
        assert {pick.name for pick in picks} == {B}
        assert (await balancer.pick("key")).name == B
        assert len(fake.asked("GetAffinity")) == 1
        # A weight moves no key.
        fake.changes.put_nowait(full(2, backend(A, 2), backend(B)))
        await eventually(lambda: balancer.view.version == 2)
        await balancer.pick("key")
        assert len(fake.asked("GetAffinity")) == 1
        # A pin does, and so does a backend that is not used any more.
        for version, change in [(3, backend(A, 2, pins=1)), (4, backend(A, 0))]:
            fake.changes.put_nowait(full(version, change, backend(B)))
            await eventually(lambda: balancer.view.version == version)
            await balancer.pick("key")
            assert len(fake.asked("GetAffinity")) == version - 1
        # And time, for pins that others set.
        monkeypatch.setattr("time.monotonic", lambda now=time.monotonic: now() + 1)
        fake.behave("GetAffinity", at(A))
        assert (await balancer.pick("key")).name == A


async def test_a_key_without_a_home_is_picked_for_by_share(client: Client, fake: Fake) -> None:
    fake.changes.put_nowait(full(1, backend(A, 0), backend(B)))
    async with Balancer(client, "api") as balancer:
        # The policy decides, or a backend that the view does not have yet.
        for name in ("", C):
            fake.behave("GetAffinity", at(name))
            assert (await balancer.pick(f"key of {name}")).name == B


async def test_homes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes_module, "_MAX_KEYS", 3)

    async def ask(key: str) -> str:
        return f"home of {key}"

    homes = homes_module.Homes(ask)
    for key in "abcd":
        await homes.find(key)
    # The oldest answer has gone.
    assert [homes.known(key) for key in "abcd"] == [None, "home of b", "home of c", "home of d"]


async def test_outcomes_are_told_together_and_in_order(client: Client, fake: Fake) -> None:
    fake.changes.put_nowait(full(1, backend(A)))
    async with Balancer(client, "api") as balancer:
        pick = await balancer.pick()
        for _ in range(1500):
            balancer.report(pick, Outcome.SUCCESS, 0.01)
        balancer.report(pick, Outcome.RESET)
        balancer.report(pick, Outcome.RESET)
        balancer.report(pick, Outcome.SUCCESS, 0.03)
        await fake.until(lambda: len(fake.asked("ReportOutcome")) == 4)
    told = [(r.outcome, r.count, r.latency) for r in fake.asked("ReportOutcome")]
    assert told == [
        (pb.OUTCOME_SUCCESS, 1000, Duration(nanos=10_000_000)),
        (pb.OUTCOME_SUCCESS, 500, Duration(nanos=10_000_000)),
        (pb.OUTCOME_RESET, 2, Duration()),
        (pb.OUTCOME_SUCCESS, 1, Duration(nanos=30_000_000)),
    ]


async def test_outcomes_are_told_before_the_client_closes(client: Client, fake: Fake) -> None:
    client.report_soon("api", A, Outcome.TIMEOUT)
    await client.close()
    assert len(fake.asked("ReportOutcome")) == 1


async def test_outcomes_that_cannot_be_told_are_lost(client: Client, fake: Fake) -> None:
    client.report_soon("api", A, Outcome.RESET, latency=float("nan"))
    fake.behave("ReportOutcome", fails(grpc.StatusCode.NOT_FOUND, "no backend is called that", times=1))
    client.report_soon("api", B, Outcome.RESET)
    client.report_soon("api", C, Outcome.RESET)
    await fake.until(lambda: len(fake.asked("ReportOutcome")) == 2)
    await fake.stop()
    client.report_soon("api", C, Outcome.RESET)
    await client.close()


async def test_what_is_kept_for_a_backend_goes_with_it(client: Client, fake: Fake) -> None:
    fake.changes.put_nowait(full(1, backend(A), backend(B)))
    made: list[str] = []

    def make(name: str) -> object:
        made.append(name)
        return object()

    async with Balancer(client, "api") as balancer:
        kept = PerBackend(balancer, make)
        a, b = (balancer.view.backends[name] for name in (A, B))
        assert kept.of(a) is kept.of(a) is not kept.of(b)
        fake.changes.put_nowait(full(2, backend(B, 2)))
        await eventually(lambda: balancer.view.version == 2)
        kept.of(b)
        fake.changes.put_nowait(full(3, backend(A), backend(B)))
        await eventually(lambda: balancer.view.version == 3)
        kept.of(a)
        kept.of(b)
    assert made == [A, B, A]
