"""Watches: whole views of whatever pieces, and over breaks."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import grpc
import pytest
from fake import Fake, fails
from outrigger import Client, InvalidArgument, NotFound, State, Unavailable, View
from outrigger._generated import control_pb2 as pb

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def backend(name: str, share: int = 1, **fields: object) -> pb.Backend:
    return pb.Backend(name=name, state=pb.STATE_READY, share=share, **fields)  # type: ignore[arg-type]


def full(version: int, *backends: pb.Backend, instance: str = "one", more: bool = False) -> pb.WatchClusterResponse:
    return pb.WatchClusterResponse(
        instance=instance, version=version, full=True, changed=backends, more=more
    )


def shares(view: View) -> dict[str, int]:
    return {name: backend.share for name, backend in view.backends.items()}


async def test_views_are_whole(client: Client, fake: Fake) -> None:
    def tell(**fields: object) -> None:
        fake.changes.put_nowait(pb.WatchClusterResponse(instance="one", **fields))  # type: ignore[arg-type]

    async with aclosing(client.watch("api")) as views:
        # A full set in two pieces is one view.
        fake.changes.put_nowait(full(1, backend(A), more=True))
        tell(version=1, changed=[backend(B)])
        view = await anext(views)
        assert (view.instance, view.version, shares(view)) == ("one", 1, {A: 1, B: 1})
        assert view.backends[A].state is State.READY
        # What is changed, new and gone, in one change.
        tell(version=2, changed=[backend(A, 0), backend(C, 2)], removed=[B], panic=True)
        first, view = view, await anext(views)
        assert (view.version, view.panic, shares(view)) == (2, True, {A: 0, C: 2})
        assert shares(first) == {A: 1, B: 1}, "a view does not change"
        # Another full set forgets what was known, in pieces too.
        fake.changes.put_nowait(full(3, backend(B), more=True))
        tell(version=3, changed=[backend(A)], more=True)
        tell(version=3, removed=[B])
        assert shares(await anext(views)) == {A: 1}


async def test_a_break_is_gone_over_from_the_last_whole_view(client: Client, fake: Fake) -> None:
    async with aclosing(client.watch("api")) as views:
        fake.changes.put_nowait(full(5, backend(A), backend(B)))
        await anext(views)
        # Half a change, whose other half will not come.
        half = pb.WatchClusterResponse(instance="one", version=6, removed=[A], more=True)
        fake.changes.put_nowait(half)
        following = asyncio.ensure_future(anext(views))
        await fake.until(lambda: fake.changes.empty())
        fake.break_streams()
        await fake.until(lambda: len(fake.watches) == 2)
        again = pb.WatchClusterRequest(cluster="api", instance="one", version=5)
        assert fake.watches[1] == again
        change = pb.WatchClusterResponse(instance="one", version=7, changed=[backend(C)])
        fake.changes.put_nowait(change)
        assert shares(await following) == {A: 1, B: 1, C: 1}


async def test_a_sidecar_that_is_gone_for_a_while_is_found_again(fake: Fake) -> None:
    address = await fake.start()
    async with Client(address) as client, aclosing(client.watch("api")) as views:
        fake.changes.put_nowait(full(5, backend(A)))
        await anext(views)
        following = asyncio.ensure_future(anext(views))
        await fake.stop()
        fake.break_streams()
        await asyncio.wait({following}, timeout=0.5)
        assert not following.done()
        await fake.start(address)
        fake.changes.put_nowait(full(1, backend(B), instance="two"))
        view = await asyncio.wait_for(following, 5)
        assert (view.instance, shares(view)) == ("two", {B: 1})


async def test_a_stream_that_the_sidecar_ends_is_opened_again(client: Client, fake: Fake) -> None:
    async with aclosing(client.watch("api")) as views:
        fake.changes.put_nowait(full(1, backend(A)))
        await anext(views)
        for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED):
            fake.behave("WatchCluster", fails(code, "broken", times=1))
            following = asyncio.ensure_future(anext(views))
            attempts = len(fake.watches)
            fake.break_streams()
            await fake.until(lambda: len(fake.watches) == attempts + 2)
            fake.changes.put_nowait(full(2, backend(A)))
            await asyncio.wait_for(following, 5)


async def test_before_the_first_view_and_for_good_errors_are_raised(client: Client, fake: Fake) -> None:
    fake.behave("WatchCluster", fails(grpc.StatusCode.UNAVAILABLE, "stopping"))
    with pytest.raises(Unavailable):
        await anext(client.watch("api"))
    with pytest.raises(InvalidArgument):
        await anext(client.watch("\ud800"))
    fake.behave("WatchCluster", fails(grpc.StatusCode.UNAVAILABLE, "", times=0))
    async with aclosing(client.watch("api")) as views:
        fake.changes.put_nowait(full(1, backend(A)))
        await anext(views)
        # A reload has dropped the cluster.
        fake.behave("WatchCluster", fails(grpc.StatusCode.NOT_FOUND, "no such cluster"))
        following = asyncio.ensure_future(anext(views))
        fake.break_streams()
        with pytest.raises(NotFound):
            await following


async def test_a_watch_that_is_left_ends_its_stream(client: Client, fake: Fake) -> None:
    async with aclosing(client.watch("api")) as views:
        fake.changes.put_nowait(full(1, backend(A)))
        await anext(views)
        assert fake.watching == 1
    await fake.until(lambda: fake.watching == 0)
