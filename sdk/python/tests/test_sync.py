"""The twin for code that blocks: that it reaches the same, from any thread, and never hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from fake import Fake
from outrigger import NotFound, Outcome, OutriggerError, Unavailable
from outrigger._generated import control_pb2 as pb
from outrigger.sync import Balancer, Client
from test_balancer import at
from test_calls import nowhere
from test_watch import A, B, backend, full

Answer = TypeVar("Answer")


class Blocking:
    """A fake that runs in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.fake = self.run(self._make())
        self.address = self.run(self.fake.start())

    async def _make(self) -> Fake:
        return Fake()

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def tell(self, change: pb.WatchClusterResponse) -> None:
        self.loop.call_soon_threadsafe(self.fake.changes.put_nowait, change)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.fake.break_streams)
        self.run(self.fake.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    fake = Blocking()
    yield fake
    fake.stop()


def test_calls_and_leases_reach_the_sidecar(blocking: Blocking) -> None:
    fake = blocking.fake
    with Client(blocking.address) as client:
        assert client.clusters() == []
        client.set_weight("api", A, 5, ttl=1)
        client.report("api", A, Outcome.RESET)
        client.report_soon("api", A, Outcome.RESET)
        with client.lease("deploy") as lease:
            lease.scale_weight("api", A, 0.5)
            assert fake.leases == {"lease-1"}
        assert fake.leases == set()
    assert len(fake.asked("ReportOutcome")) == 2


def test_every_thread_may_call(blocking: Blocking) -> None:
    with Client(blocking.address) as client, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.explain("api").picked, range(200)))
    assert answers == [""] * 200


def test_a_watch_goes_on_and_ends_when_it_is_left(blocking: Blocking) -> None:
    with Client(blocking.address) as client:
        views = client.watch("api")
        blocking.tell(full(1, backend(A)))
        assert set(next(views).backends) == {A}
        blocking.tell(full(2, backend(B)))
        assert set(next(views).backends) == {B}
        views.close()
        blocking.run(blocking.fake.until(lambda: blocking.fake.watching == 0))


def test_direct_mode_picks(blocking: Blocking) -> None:
    blocking.fake.behave("GetAffinity", at(B))
    blocking.tell(full(1, backend(A), backend(B, 0)))
    with Client(blocking.address) as client, Balancer(client, "api") as balancer:
        assert balancer.pick().name == A
        assert {balancer.pick("key").name for _ in range(10)} == {B}
        assert len(blocking.fake.asked("GetAffinity")) == 1
        balancer.report(balancer.pick(), Outcome.SUCCESS, 0.001)
        blocking.run(blocking.fake.until(lambda: bool(blocking.fake.asked("ReportOutcome"))))


def test_an_absent_sidecar_is_told() -> None:
    with Client(nowhere()) as client:
        with pytest.raises(Unavailable):
            client.clusters()
        with pytest.raises(Unavailable), client.lease("me"):
            pass
        with pytest.raises(Unavailable), Balancer(client, "api"):
            pass
        with pytest.raises(Unavailable):
            next(client.watch("api"))
        client.report_soon("api", A, Outcome.RESET)


def test_closing_ends_what_waits(blocking: Blocking) -> None:
    client = Client(blocking.address)
    views = client.watch("api")
    blocking.tell(full(1, backend(A)))
    next(views)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(next, views)
        client.close()
        with pytest.raises(Unavailable, match="closed"):
            waiting.result(5)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told_instead_of_hanging(blocking: Blocking) -> None:
    with Client(blocking.address) as client:
        client.clusters()
        process = os.fork()
        if process == 0:
            try:
                client.report_soon("api", A, Outcome.RESET)
                client.clusters()
            except OutriggerError as error:
                os._exit(10 if "fork" in str(error) else 11)
            finally:
                os._exit(12)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 10
        # The parent goes on.
        client.clusters()


def test_a_process_ends_with_a_client_that_is_open(blocking: Blocking) -> None:
    """And says nothing about it, whatever is under way."""
    code = f"""
from outrigger import Outcome
from outrigger.sync import Client
client = Client({blocking.address!r})
lease = client.lease("me")
lease.__enter__()
views = client.watch("api")
next(views)
client.report_soon("api", "{A}", Outcome.RESET)
"""
    blocking.tell(full(1, backend(A)))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    blocking.run(blocking.fake.until(lambda: not blocking.fake.leases))


@pytest.mark.parametrize("call", ['client.wait_drained("api", "a")', 'next(client.watch("api"))'])
def test_who_waits_may_be_interrupted(blocking: Blocking, call: str) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.sleep(60)

    blocking.fake.behave("WaitDrained", hang)
    code = f"""
from outrigger.sync import Client
with Client({blocking.address!r}, timeout=60) as client:
    try:
        {call}
    except KeyboardInterrupt:
        print("interrupted")
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        blocking.run(blocking.fake.until(lambda: bool(blocking.fake.calls)))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("interrupted\n", "")
    assert process.returncode == 0
