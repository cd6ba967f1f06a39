"""How calls reach a sidecar, and how they fail."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake import Fake, fails
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, QuotaFailure, ResourceInfo, RetryInfo
from outrigger import (
    Client,
    DeadlineExceeded,
    Denied,
    Exhausted,
    InvalidArgument,
    NotFound,
    Outcome,
    OutriggerError,
    Tls,
    Unavailable,
    Violation,
)
from outrigger._generated import control_pb2 as pb

BACKEND = "10.0.0.1:80"

# Every call there is but leases and watches, each with nothing wrong.
CALLS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "ListClusters": lambda c: c.clusters(),
    "SetWeight": lambda c: c.set_weight("api", BACKEND, 5, ttl=60),
    "ClearWeight": lambda c: c.clear_weight("api", BACKEND),
    "SetAffinity": lambda c: c.set_affinity("api", "key", ttl=60),
    "GetAffinity": lambda c: c.affinity("api", "key"),
    "ClearAffinity": lambda c: c.clear_affinity("api", "key"),
    "Drain": lambda c: c.drain("api", BACKEND, ttl=60),
    "Resume": lambda c: c.resume("api", BACKEND),
    "WaitDrained": lambda c: c.wait_drained("api", BACKEND),
    "ReportOutcome": lambda c: c.report("api", BACKEND, Outcome.RESET),
    "ListEvents": lambda c: c.events(),
    "Explain": lambda c: c.explain("api"),
}
NOT_REPEATED = {"ReportOutcome", "ClearAffinity"}


def nowhere() -> str:
    """Where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


async def test_requests_say_what_was_asked_for(client: Client, fake: Fake) -> None:
    await client.set_weight("api", BACKEND, 5, ttl=1.5, owner="me")
    await client.scale_weight("api", BACKEND, 0.25, ttl=60)
    await client.clear_weight("api", BACKEND, all=True)
    await client.drain("api", BACKEND, timeout=0, ttl=60)
    await client.drain("api", BACKEND, ttl=60)
    await client.report("api", BACKEND, Outcome.HTTP_5XX, latency=0.002, count=3)
    await client.events("api", after=7, wait=0.5)
    ttl, minute = Duration(seconds=1, nanos=500_000_000), Duration(seconds=60)
    common: dict[str, Any] = {"cluster": "api", "backend": BACKEND}
    assert [request for _, request in fake.calls] == [
        pb.SetWeightRequest(**common, weight=5, ttl=ttl, owner="me"),
        pb.SetWeightRequest(**common, factor=0.25, ttl=minute),
        pb.ClearWeightRequest(**common, all=True),
        # At once is something else than as configured.
        pb.DrainRequest(**common, timeout=Duration(), ttl=minute),
        pb.DrainRequest(**common, ttl=minute),
        pb.ReportOutcomeRequest(
            **common, outcome=pb.OUTCOME_HTTP_5XX, latency=Duration(nanos=2_000_000), count=3
        ),
        pb.ListEventsRequest(cluster="api", after=7, wait=Duration(nanos=500_000_000)),
    ]


@pytest.mark.parametrize("method", CALLS)
async def test_a_call_is_tried_again_unless_it_would_count_twice(
    method: str, client: Client, fake: Fake
) -> None:
    fake.behave(method, fails(grpc.StatusCode.UNAVAILABLE, "not yet", times=2))
    if method in NOT_REPEATED:
        with pytest.raises(Unavailable, match="not yet"):
            await CALLS[method](client)
        assert len(fake.asked(method)) == 1
    else:
        await CALLS[method](client)
        assert len(fake.asked(method)) == 3


@pytest.mark.parametrize("address", [nowhere(), "unix:/nonexistent/control.sock"])
async def test_an_absent_sidecar_is_told_at_once(address: str) -> None:
    async with Client(address) as client:
        started = time.monotonic()
        calls = (call(client) for call in CALLS.values())
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [Unavailable] * len(CALLS)
        # Attempts included; a call may take 2 s.
        assert time.monotonic() - started < 1.5


async def test_streams_of_an_absent_sidecar_fail_at_once() -> None:
    async with Client(nowhere()) as client:
        with pytest.raises(Unavailable):
            await anext(client.watch("api"))
        with pytest.raises(Unavailable):
            async with client.lease("me"):
                pass


async def test_a_sidecar_that_hangs_is_waited_for_no_longer_than_the_timeout(fake: Fake) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.sleep(60)

    for method in ("Explain", "ListEvents", "WatchCluster", "OpenLease"):
        fake.behave(method, hang)
    async with Client(await fake.start(), timeout=0.2) as client:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded) as raised:
            await client.explain("api")
        assert isinstance(raised.value, TimeoutError)
        with pytest.raises(Unavailable):
            await anext(client.watch("api"))
        with pytest.raises(Unavailable):
            async with client.lease("me"):
                pass
        assert time.monotonic() - started < 2
        # What it was asked to wait for comes on top.
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await client.events(wait=0.3)
        assert time.monotonic() - started >= 0.5


async def test_a_drain_takes_as_long_as_it_takes(fake: Fake) -> None:
    async def later(*_: Any) -> pb.WaitDrainedResponse:
        await asyncio.sleep(0.3)
        return pb.WaitDrainedResponse(forced=2, resumed=True)

    fake.behave("WaitDrained", later)
    async with Client(await fake.start(), timeout=0.1) as client:
        drained = await client.wait_drained("api", BACKEND)
    assert (drained.forced, drained.resumed) == (2, True)


async def test_errors_have_their_kinds_and_details(client: Client, fake: Fake) -> None:
    code = grpc.StatusCode

    async def error(behaviour: Any) -> Any:
        fake.behave("Explain", behaviour)
        with pytest.raises(OutriggerError) as raised:
            await client.explain("api")
        return raised.value

    resource = ResourceInfo(resource_type="cluster", resource_name="api")
    found = await error(fails(code.NOT_FOUND, "no such cluster", resource))
    assert isinstance(found, NotFound)
    assert (str(found), found.kind, found.name) == ("no such cluster", "cluster", "api")

    field = BadRequest.FieldViolation(field="weight", description="must be 0..=65535, got 70000")
    found = await error(fails(code.INVALID_ARGUMENT, "weight", BadRequest(field_violations=[field])))
    assert isinstance(found, InvalidArgument) and isinstance(found, ValueError)
    assert found.violations == (Violation("weight", "must be 0..=65535, got 70000"),)

    found = await error(fails(code.RESOURCE_EXHAUSTED, "pins", QuotaFailure()))
    assert isinstance(found, Exhausted) and found.retry_after is None
    retry = RetryInfo(retry_delay=Duration(nanos=250_000_000))
    found = await error(fails(code.RESOURCE_EXHAUSTED, "too fast", retry))
    assert isinstance(found, Exhausted) and found.retry_after == 0.25

    for denied in (code.UNAUTHENTICATED, code.PERMISSION_DENIED):
        found = await error(fails(denied, "no"))
        assert isinstance(found, Denied) and found.code == denied
    found = await error(fails(code.INTERNAL, "broken"))
    assert type(found) is OutriggerError and found.code == code.INTERNAL


async def test_details_that_contradict_the_status_are_left_out(client: Client, fake: Fake) -> None:
    async def contradict(_request: Any, context: Any) -> None:
        trailers = (("grpc-status-details-bin", b"\x08\x05"),)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "key is empty", trailers)

    fake.behave("Explain", contradict)
    with pytest.raises(InvalidArgument, match="key is empty") as raised:
        await client.explain("api")
    assert raised.value.violations == ()


async def test_what_no_field_can_hold_is_refused_as_the_sidecar_would(client: Client) -> None:
    for weight in (-1, 2**32):
        with pytest.raises(InvalidArgument):
            await client.set_weight("api", BACKEND, weight, ttl=1)
    for ttl in (float("nan"), float("inf"), 1e30):
        with pytest.raises(InvalidArgument):
            await client.set_weight("api", BACKEND, 1, ttl=ttl)
    with pytest.raises(InvalidArgument):
        await client.affinity("api", "\ud800")


async def test_a_token_file_is_read_for_each_call(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    address = await fake.start()
    async with Client(address, token_file=file) as client:
        with pytest.raises(Denied, match="cannot read"):
            await client.clusters()
        file.write_text("first\n")
        await client.clusters()
        assert fake.metadata["authorization"] == "Bearer first"
        file.write_text("second\n")
        await client.clusters()
        assert fake.metadata["authorization"] == "Bearer second"
        file.write_text("two\nlines")
        with pytest.raises(Denied):
            await client.clusters()

    file.write_text("third")
    monkeypatch.setenv("OUTRIGGER_CONTROL_TOKEN_FILE", str(file))
    monkeypatch.setenv("OUTRIGGER_CONTROL", address)
    async with Client() as client:
        await client.clusters()
        assert fake.metadata["authorization"] == "Bearer third"
    async with Client(token="mine") as client:
        await client.clusters()
        assert fake.metadata["authorization"] == "Bearer mine"


async def test_without_a_token_none_is_sent(client: Client, fake: Fake) -> None:
    await client.clusters()
    assert "authorization" not in fake.metadata


async def test_a_unix_socket_is_an_address(fake: Fake, tmp_path: Path) -> None:
    async with Client(await fake.start(f"unix:{tmp_path}/control.sock")) as client:
        assert await client.clusters() == []


async def test_a_proxy_for_the_web_is_none_for_the_sidecar(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{nowhere()}")
    async with Client(await fake.start()) as client:
        await client.clusters()


@pytest.mark.parametrize("address", ["9911", "localhost", "unix:", "host:port", "host:70000", ":1"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match="unix:PATH or HOST:PORT"):
        Client(address)


async def test_files_of_tls_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    async with Client(tls=Tls(ca_file=tmp_path / "ca.pem")) as client:
        with pytest.raises(Denied, match="ca.pem"):
            await client.clusters()


async def test_a_closed_client_says_so(client: Client) -> None:
    await client.close()
    with pytest.raises(Unavailable, match="closed"):
        await client.clusters()
