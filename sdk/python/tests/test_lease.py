"""Leases whose streams break: what was ordered comes back, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from fake import Fake, abort, fails
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ResourceInfo, RetryInfo
from outrigger import Client, Denied, NotFound, Unavailable
from outrigger._generated import control_pb2 as pb

A, B = "10.0.0.1:80", "10.0.0.2:80"


def weights(fake: Fake, lease_id: str) -> list[tuple[str, int]]:
    """What was ordered under that lease, in order of backends."""
    requests = fake.asked("SetWeight")
    return sorted((r.backend, r.weight) for r in requests if r.lease_id == lease_id)


async def test_orders_name_the_lease_and_end_with_the_block(client: Client, fake: Fake) -> None:
    async with client.lease("deploy") as lease:
        await lease.set_weight("api", A, 5)
        await lease.scale_weight("api", A, 0.5)
        await lease.drain("api", B, timeout=3)
        await lease.set_affinity("api", "key", B)
        await lease.clear_weight("api", A)
        await lease.resume("api", B)
        assert fake.leases == {"lease-1"}
    # The block has been waited for: the orders are gone when it is left.
    assert fake.leases == set()
    lease_id = "lease-1"
    assert [request for _, request in fake.calls] == [
        pb.OpenLeaseRequest(owner="deploy"),
        pb.SetWeightRequest(cluster="api", backend=A, weight=5, lease_id=lease_id),
        pb.SetWeightRequest(cluster="api", backend=A, factor=0.5, lease_id=lease_id),
        pb.DrainRequest(cluster="api", backend=B, timeout=Duration(seconds=3), lease_id=lease_id),
        pb.SetAffinityRequest(cluster="api", key="key", backend=B, lease_id=lease_id),
        pb.ClearWeightRequest(cluster="api", backend=A, lease_id=lease_id),
        pb.ResumeRequest(cluster="api", backend=B, lease_id=lease_id),
    ]


async def test_the_latest_orders_are_given_again_and_cleared_ones_are_not(
    client: Client, fake: Fake
) -> None:
    async with client.lease("deploy") as lease:
        await lease.set_weight("api", A, 1)
        await lease.set_weight("api", A, 2)
        await lease.set_weight("api", B, 3)
        await lease.clear_weight("api", B)
        await lease.drain("api", B)
        await lease.resume("api", B)
        await lease.set_affinity("api", "gone", A)
        await lease.clear_affinity("api", "gone")
        fake.behave("SetAffinity", answer_b)
        await lease.set_affinity("api", "key")
        fake.calls.clear()
        fake.break_streams()
        await fake.until(lambda: len(fake.calls) == 3)
        assert weights(fake, "lease-2") == [(A, 2)]
        # Where it was, not wherever the key would be sent to by now.
        pin = pb.SetAffinityRequest(cluster="api", key="key", backend=B, lease_id="lease-2")
        assert fake.asked("SetAffinity") == [pin]


async def answer_b(*_: Any) -> pb.SetAffinityResponse:
    return pb.SetAffinityResponse(backend=B)


async def test_a_sidecar_that_restarts_is_told_again(fake: Fake) -> None:
    address = await fake.start()
    async with Client(address) as client, client.lease("deploy") as lease:
        await lease.set_weight("api", A, 1)
        await fake.stop()
        fake.break_streams()
        # Nobody is there, and what is refused is not remembered.
        with pytest.raises(Unavailable):
            await lease.set_weight("api", B, 2)
        await fake.start(address)
        await fake.until(lambda: weights(fake, "lease-2") == [(A, 1)])
        await lease.set_weight("api", B, 3)
        assert weights(fake, "lease-2") == [(A, 1), (B, 3)]


async def test_what_is_not_accepted_yet_is_repeated(client: Client, fake: Fake) -> None:
    async with client.lease("deploy") as lease:
        await lease.set_weight("api", A, 1)
        # As after a restart, when nothing is discovered yet.
        unknown = ResourceInfo(resource_type="backend", resource_name=A)
        code = grpc.StatusCode.NOT_FOUND
        fake.behave("SetWeight", fails(code, "no backend is called that", unknown, times=3))
        fake.break_streams()
        await fake.until(lambda: len(weights(fake, "lease-2")) == 4)
        # That was accepted, so there is no other.
        fake.break_streams()
        await fake.until(lambda: len(weights(fake, "lease-3")) == 1)
        assert len(weights(fake, "lease-2")) == 4


async def test_changes_that_come_too_fast_are_given_time(client: Client, fake: Fake) -> None:
    async with client.lease("deploy") as lease:
        await lease.set_weight("api", A, 1)
        retry = RetryInfo(retry_delay=Duration(nanos=400_000_000))
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        fake.behave("SetWeight", fails(code, "too fast", retry, times=1))
        fake.break_streams()
        await fake.until(lambda: len(weights(fake, "lease-2")) == 1)
        refused = asyncio.get_running_loop().time()
        await fake.until(lambda: len(weights(fake, "lease-2")) == 2)
        assert asyncio.get_running_loop().time() - refused >= 0.35


async def test_an_order_that_fails_is_not_remembered(client: Client, fake: Fake) -> None:
    async with client.lease("deploy") as lease:
        await lease.set_weight("api", A, 1)
        unknown = ResourceInfo(resource_type="backend", resource_name=B)
        fake.behave("SetWeight", fails(grpc.StatusCode.NOT_FOUND, "no", unknown, times=1))
        with pytest.raises(NotFound, match="no"):
            await lease.set_weight("api", B, 1)
        fake.break_streams()
        await fake.until(lambda: len(weights(fake, "lease-2")) == 1)
        assert weights(fake, "lease-2") == [(A, 1)]


async def test_an_old_order_never_overtakes_a_new_one(client: Client, fake: Fake) -> None:
    done: list[int] = []

    async def slow(request: pb.SetWeightRequest, _context: Any) -> None:
        # The old one would be done last.
        await asyncio.sleep(0.3 if request.weight == 1 else 0)
        done.append(request.weight)

    async with client.lease("deploy") as lease:
        await lease.set_weight("api", A, 1)
        fake.behave("SetWeight", slow)
        fake.break_streams()
        await fake.until(lambda: weights(fake, "lease-2") == [(A, 1)])
        await lease.set_weight("api", A, 2)
        assert done == [1, 2]
        # And the new one is what is remembered.
        fake.break_streams()
        await fake.until(lambda: weights(fake, "lease-3") == [(A, 2)])


async def test_an_order_that_is_under_way_at_a_restart_is_given_again(
    client: Client, fake: Fake
) -> None:
    async def restart(request: pb.SetWeightRequest, _context: Any) -> None:
        if request.lease_id == "lease-1":
            fake.break_streams()
            # It is answered once the other lease has been opened, and all that was remembered given again.
            await fake.until(lambda: weights(fake, "lease-2") == [(A, 1)])

    async with client.lease("deploy") as lease:
        await lease.set_weight("api", A, 1)
        fake.behave("SetWeight", restart)
        await lease.set_weight("api", B, 2)
        assert weights(fake, "lease-2") == [(A, 1), (B, 2)]


async def test_orders_need_the_block(client: Client) -> None:
    lease = client.lease("deploy")
    with pytest.raises(Unavailable, match="has not been entered"):
        await lease.set_weight("api", A, 1)
    async with lease:
        pass
    with pytest.raises(Unavailable, match="has been left"):
        await lease.set_weight("api", A, 1)


async def test_a_lease_that_is_unknown_is_not_there(client: Client, fake: Fake) -> None:
    async def unknown(_request: Any, context: Any) -> None:
        resource = ResourceInfo(resource_type="lease", resource_name="lease-1")
        await abort(context, grpc.StatusCode.NOT_FOUND, "the lease has ended", resource)

    async with client.lease("deploy") as lease:
        fake.behave("SetWeight", unknown)
        with pytest.raises(Unavailable, match="opened again"):
            await lease.set_weight("api", A, 1)


async def test_a_lease_is_left_without_a_sidecar(client: Client, fake: Fake) -> None:
    async with client.lease("deploy") as lease:
        await lease.set_weight("api", A, 1)
        await fake.stop()
        fake.break_streams()


async def test_a_lease_ends_with_an_error_too(client: Client, fake: Fake) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.lease("deploy"):
            raise ZeroDivisionError
    assert fake.leases == set()


async def test_why_a_lease_is_refused_is_never_lost(client: Client, fake: Fake) -> None:
    """gRPC reports INTERNAL for one in twenty that are refused while the first message is under way."""
    fake.behave("OpenLease", fails(grpc.StatusCode.PERMISSION_DENIED, "not you"))
    for _ in range(200):
        with pytest.raises(Denied, match="not you"):
            async with client.lease("deploy"):
                pass


async def test_many_orders_are_given_again(client: Client, fake: Fake) -> None:
    async with client.lease("sessions") as lease:
        keys = [str(key) for key in range(500)]
        await asyncio.gather(*(lease.set_affinity("api", key, A) for key in keys))
        fake.calls.clear()
        fake.break_streams()
        await fake.until(lambda: len(fake.asked("SetAffinity")) == len(keys))
        assert {request.key for request in fake.asked("SetAffinity")} == set(keys)
