"""The same as `outrigger`, for code that blocks: `Client`, `Lease` and `Balancer`, which any thread may use.

All of them share one thread with an event loop, where the work is done. After a fork a process cannot use what its
parent has used: make clients where they are needed, after the workers of a server are forked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import suppress
from types import TracebackType

from . import balancer as aio_balancer
from . import client as aio_client
from . import lease as aio_lease
from .connection import DEFAULT_TIMEOUT, Tls
from .errors import Unavailable
from .loop import LOOP
from .model import (
    Affinity,
    Backend,
    Cluster,
    Drained,
    Events,
    Explained,
    Outcome,
    View,
)

class Client:
    """As `outrigger.Client`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls: Tls | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._client = aio_client.Client(
            address, token=token, token_file=token_file, tls=tls, timeout=timeout
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """As `outrigger.Client.close`."""
        LOOP.run(self._client.close())

    def clusters(self, cluster: str = "") -> list[Cluster]:
        """As `outrigger.Client.clusters`."""
        return LOOP.run(self._client.clusters(cluster))

    def watch(self, cluster: str) -> Generator[View, None, None]:
        """As `outrigger.Client.watch`; the stream ends when the iterator is closed or dropped."""
        views = self._client.watch(cluster)
        try:
            while True:
                yield LOOP.run(_next(views))
        finally:
            with suppress(Unavailable):
                LOOP.run(_close(views))

    def lease(self, owner: str) -> Lease:
        """As `outrigger.Client.lease`."""
        return Lease(self._client.lease(owner))

    def set_weight(
        self, cluster: str, backend: str, weight: int, *, ttl: float, owner: str = ""
    ) -> Backend:
        """As `outrigger.Client.set_weight`."""
        return LOOP.run(self._client.set_weight(cluster, backend, weight, ttl=ttl, owner=owner))

    def scale_weight(
        self, cluster: str, backend: str, factor: float, *, ttl: float, owner: str = ""
    ) -> Backend:
        """As `outrigger.Client.scale_weight`."""
        return LOOP.run(self._client.scale_weight(cluster, backend, factor, ttl=ttl, owner=owner))

    def clear_weight(
        self, cluster: str, backend: str, *, owner: str = "", all: bool = False
    ) -> Backend:
        """As `outrigger.Client.clear_weight`."""
        return LOOP.run(self._client.clear_weight(cluster, backend, owner=owner, all=all))

    def set_affinity(
        self, cluster: str, key: str, backend: str = "", *, ttl: float, owner: str = ""
    ) -> str:
        """As `outrigger.Client.set_affinity`."""
        return LOOP.run(self._client.set_affinity(cluster, key, backend, ttl=ttl, owner=owner))

    def affinity(self, cluster: str, key: str) -> Affinity:
        """As `outrigger.Client.affinity`."""
        return LOOP.run(self._client.affinity(cluster, key))

    def clear_affinity(self, cluster: str, key: str) -> bool:
        """As `outrigger.Client.clear_affinity`."""
        return LOOP.run(self._client.clear_affinity(cluster, key))

    def drain(
        self,
        cluster: str,
        backend: str,
        *,
        timeout: float | None = None,
        ttl: float,
        owner: str = "",
    ) -> Backend:
        """As `outrigger.Client.drain`."""
        return LOOP.run(
            self._client.drain(cluster, backend, timeout=timeout, ttl=ttl, owner=owner)
        )

    def resume(
        self, cluster: str, backend: str, *, owner: str = "", all: bool = False
    ) -> Backend:
        """As `outrigger.Client.resume`."""
        return LOOP.run(self._client.resume(cluster, backend, owner=owner, all=all))

    def wait_drained(self, cluster: str, backend: str) -> Drained:
        """As `outrigger.Client.wait_drained`."""
        return LOOP.run(self._client.wait_drained(cluster, backend))

    def report(
        self,
        cluster: str,
        backend: str,
        outcome: Outcome,
        *,
        latency: float | None = None,
        count: int = 1,
    ) -> None:
        """As `outrigger.Client.report`."""
        LOOP.run(self._client.report(cluster, backend, outcome, latency=latency, count=count))

    def report_soon(
        self, cluster: str, backend: str, outcome: Outcome, *, latency: float | None = None
    ) -> None:
        """As `outrigger.Client.report_soon`."""
        LOOP.soon(
            lambda: self._client.report_soon(cluster, backend, outcome, latency=latency)
        )

    def events(self, cluster: str = "", *, after: int = 0, wait: float = 0) -> Events:
        """As `outrigger.Client.events`."""
        return LOOP.run(self._client.events(cluster, after=after, wait=wait))

    def explain(self, cluster: str, key: str = "") -> Explained:
        """As `outrigger.Client.explain`."""
        return LOOP.run(self._client.explain(cluster, key))


class Lease:
    """As `outrigger.Lease`."""

    def __init__(self, lease: aio_lease.Lease) -> None:
        self._lease = lease

    def __enter__(self) -> Lease:
        LOOP.run(self._lease.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        LOOP.run(self._lease.__aexit__(kind, error, traceback))

    def set_weight(self, cluster: str, backend: str, weight: int) -> Backend:
        """As `outrigger.Lease.set_weight`."""
        return LOOP.run(self._lease.set_weight(cluster, backend, weight))

    def scale_weight(self, cluster: str, backend: str, factor: float) -> Backend:
        """As `outrigger.Lease.scale_weight`."""
        return LOOP.run(self._lease.scale_weight(cluster, backend, factor))

    def clear_weight(self, cluster: str, backend: str) -> Backend:
        """As `outrigger.Lease.clear_weight`."""
        return LOOP.run(self._lease.clear_weight(cluster, backend))

    def set_affinity(self, cluster: str, key: str, backend: str = "") -> str:
        """As `outrigger.Lease.set_affinity`."""
        return LOOP.run(self._lease.set_affinity(cluster, key, backend))

    def clear_affinity(self, cluster: str, key: str) -> bool:
        """As `outrigger.Lease.clear_affinity`."""
        return LOOP.run(self._lease.clear_affinity(cluster, key))

    def drain(self, cluster: str, backend: str, *, timeout: float | None = None) -> Backend:
        """As `outrigger.Lease.drain`."""
        return LOOP.run(self._lease.drain(cluster, backend, timeout=timeout))

    def resume(self, cluster: str, backend: str) -> Backend:
        """As `outrigger.Lease.resume`."""
        return LOOP.run(self._lease.resume(cluster, backend))


class Balancer:
    """As `outrigger.Balancer`; only a pick for a key that was not asked for of late leaves the caller's thread."""

    def __init__(self, client: Client, cluster: str) -> None:
        self._balancer = aio_balancer.Balancer(client._client, cluster)
        self._client = client
        self._cluster = cluster

    def __enter__(self) -> Balancer:
        LOOP.run(self._balancer.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        LOOP.run(self._balancer.__aexit__(kind, error, traceback))

    @property
    def view(self) -> View:
        """As `outrigger.Balancer.view`."""
        return self._balancer.view

    def pick(self, key: str | None = None) -> Backend:
        """As `outrigger.Balancer.pick`."""
        return self._balancer.pick_known(key) or LOOP.run(self._balancer.pick(key))

    def report(self, backend: Backend, outcome: Outcome, latency: float | None = None) -> None:
        """As `outrigger.Balancer.report`."""
        self._client.report_soon(self._cluster, backend.name, outcome, latency=latency)


async def _next(views: AsyncIterator[View]) -> View:
    return await anext(views)


async def _close(views: AsyncGenerator[View, None]) -> None:
    # Who was interrupted while waiting for the next view has cancelled that, but is not waited for.
    while views.ag_running:  # type: ignore[attr-defined]  # as all async generators that are functions
        await asyncio.sleep(0)
    await views.aclose()
