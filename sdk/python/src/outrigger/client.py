"""The client of the control API for asyncio; `outrigger.sync` has the same for everybody else."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from types import TracebackType

from ._generated import control_pb2 as pb
from .connection import DEFAULT_TIMEOUT, Connection, Tls, build, duration
from .lease import Lease
from .model import Affinity, Backend, Cluster, Drained, Events, Explained, Outcome, View
from .reports import Reports
from .watch import watch


class Client:
    """Speaks with the sidecar beside the app.

    - `address`: `HOST:PORT` or `unix:PATH`; by default what `OUTRIGGER_CONTROL` says, else `127.0.0.1:9911`.
    - `token`, or a `token_file` that is read for each call, by default what `OUTRIGGER_CONTROL_TOKEN_FILE` names.
    - `tls`: how to speak TLS; by default it is not spoken.
    - `timeout`: seconds that a call may take.

    Nothing is opened before the first call, and the sidecar need not be there before that. A client belongs to the
    event loop of its first call; it is closed by `close`, or as a context manager.

    Every call raises `Unavailable` if the sidecar is absent, within the timeout, and other kinds of `OutriggerError`
    otherwise. Calls that may be repeated are, for about a third of a second while the sidecar is absent.

    A `backend` is named by its address, or by a target's or node's name that exactly one backend has. A `ttl` is in
    seconds, 0.001 to 86,400, after which it is as if the order had never been. An `owner` is what the app calls
    itself, 1 to 64 printable ASCII characters, `sdk` by default: it has one order of a kind for a backend.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls: Tls | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._connection = Connection(
            address, token=token, token_file=token_file, tls=tls, timeout=timeout
        )
        self._reports = Reports(self.report)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Sends what `report_soon` has collected, and ends all that is under way: leases and watches too."""
        await self._reports.close()
        await self._connection.close()

    async def clusters(self, cluster: str = "") -> list[Cluster]:
        """All clusters and their backends as they are now, or only this one."""
        request = build(pb.ListClustersRequest, cluster=cluster)
        answer = await self._connection.call(self._connection.stub.ListClusters, request)
        return list(map(Cluster._of, answer.clusters))

    def watch(self, cluster: str) -> AsyncGenerator[View, None]:
        """All backends of a cluster, and then again after every change of them.

        Before the first view it raises if the sidecar is absent; after it, breaks are gone over, and the next view
        comes when the sidecar is back. It ends with `NotFound` when there is no such cluster any more.
        """
        return watch(self._connection, cluster)

    def lease(self, owner: str) -> Lease:
        """A context manager with orders that end with its block, or with the process, however that ends:

            async with client.lease("deploy") as lease:
                await lease.set_weight("api", "10.0.0.1:80", 0)
        """
        return Lease(self._connection, owner)

    async def set_weight(
        self, cluster: str, backend: str, weight: int, *, ttl: float, owner: str = ""
    ) -> Backend:
        """Gives a backend this weight, 0 to 65,535, instead of discovery's. New picks follow it on return."""
        request = build(
            pb.SetWeightRequest,
            cluster=cluster,
            backend=backend,
            weight=weight,
            ttl=duration(ttl),
            owner=owner,
        )
        answer = await self._connection.call(self._connection.stub.SetWeight, request)
        return Backend._of(answer.backend)

    async def scale_weight(
        self, cluster: str, backend: str, factor: float, *, ttl: float, owner: str = ""
    ) -> Backend:
        """Multiplies the weight that a backend would have by 0 to 1,000, in steps of 1/256; those of several owners
        multiply. Takes the place of the owner's `set_weight`."""
        request = build(
            pb.SetWeightRequest,
            cluster=cluster,
            backend=backend,
            factor=factor,
            ttl=duration(ttl),
            owner=owner,
        )
        answer = await self._connection.call(self._connection.stub.SetWeight, request)
        return Backend._of(answer.backend)

    async def clear_weight(
        self, cluster: str, backend: str, *, owner: str = "", all: bool = False
    ) -> Backend:
        """Takes this owner's orders of weight back; with `all` everybody's, which takes the role `admin`."""
        request = build(
            pb.ClearWeightRequest, cluster=cluster, backend=backend, owner=owner, all=all
        )
        answer = await self._connection.call(self._connection.stub.ClearWeight, request)
        return Backend._of(answer.backend)

    async def set_affinity(
        self, cluster: str, key: str, backend: str = "", *, ttl: float, owner: str = ""
    ) -> str:
        """Pins a key of 1 to 256 bytes to a backend, by default to where it lives now or would be sent to. What
        carries the key (see `affinity_headers`) goes there for as long as the backend may be used. Answers with the
        backend's name."""
        request = build(
            pb.SetAffinityRequest,
            cluster=cluster,
            key=key,
            backend=backend,
            ttl=duration(ttl),
            owner=owner,
        )
        answer = await self._connection.call(self._connection.stub.SetAffinity, request)
        return answer.backend

    async def affinity(self, cluster: str, key: str) -> Affinity:
        """Where a key would go now, and why."""
        request = build(pb.GetAffinityRequest, cluster=cluster, key=key)
        return Affinity._of(await self._connection.call(self._connection.stub.GetAffinity, request))

    async def clear_affinity(self, cluster: str, key: str) -> bool:
        """Takes the pin of a key back, and tells whether there was one."""
        request = build(pb.ClearAffinityRequest, cluster=cluster, key=key)
        answer = await self._connection.call(self._connection.stub.ClearAffinity, request)
        return answer.cleared

    async def drain(
        self,
        cluster: str,
        backend: str,
        *,
        timeout: float | None = None,
        ttl: float,
        owner: str = "",
    ) -> Backend:
        """Lets a backend finish what it has and gives it nothing new. What is left after `timeout` seconds, up to
        86,400 and by default as configured, is ended by force. The backend resumes after the `ttl`."""
        request = build(
            pb.DrainRequest,
            cluster=cluster,
            backend=backend,
            timeout=duration(timeout),
            ttl=duration(ttl),
            owner=owner,
        )
        answer = await self._connection.call(self._connection.stub.Drain, request)
        return Backend._of(answer.backend)

    async def resume(
        self, cluster: str, backend: str, *, owner: str = "", all: bool = False
    ) -> Backend:
        """Takes this owner's orders to drain back; with `all` everybody's, which takes the role `admin`."""
        request = build(pb.ResumeRequest, cluster=cluster, backend=backend, owner=owner, all=all)
        answer = await self._connection.call(self._connection.stub.Resume, request)
        return Backend._of(answer.backend)

    async def wait_drained(self, cluster: str, backend: str) -> Drained:
        """Waits until a backend that drains has no work left: as long as its drain takes."""
        request = build(pb.WaitDrainedRequest, cluster=cluster, backend=backend)
        method = self._connection.stub.WaitDrained
        answer = await self._connection.call_without_end(method, request)
        return Drained(answer.forced, answer.resumed)

    async def report(
        self,
        cluster: str,
        backend: str,
        outcome: Outcome,
        *,
        latency: float | None = None,
        count: int = 1,
    ) -> None:
        """Tells what the app has seen of a backend, `count` times, 1 to 1,000, and in how many seconds the backend
        answered. It counts like what the sidecar sees itself, so leave it for what the sidecar cannot see."""
        request = build(
            pb.ReportOutcomeRequest,
            cluster=cluster,
            backend=backend,
            outcome=pb.Outcome.Value(f"OUTCOME_{outcome.name}"),
            latency=duration(latency),
            count=count,
        )
        await self._connection.call(self._connection.stub.ReportOutcome, request)

    def report_soon(
        self, cluster: str, backend: str, outcome: Outcome, *, latency: float | None = None
    ) -> None:
        """As `report`, but collects for a tenth of a second and never raises or waits: what cannot be told is lost."""
        self._reports.add(cluster, backend, outcome, latency)

    async def events(self, cluster: str = "", *, after: int = 0, wait: float = 0) -> Events:
        """What has happened to this cluster, or to all, after the event with that id. If there is nothing, waits for
        it up to 60 seconds."""
        request = build(
            pb.ListEventsRequest, cluster=cluster, after=after, wait=duration(wait)
        )
        method = self._connection.stub.ListEvents
        return Events._of(await self._connection.call(method, request, extra=wait))

    async def explain(self, cluster: str, key: str = "") -> Explained:
        """Who would be picked now for this key, or for none, and why every other backend would not."""
        request = build(pb.ExplainRequest, cluster=cluster, key=key)
        return Explained._of(await self._connection.call(self._connection.stub.Explain, request))
