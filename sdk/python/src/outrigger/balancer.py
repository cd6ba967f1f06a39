"""Direct mode: the app dials backends itself, by the sidecar's view of them, and saves the way through the sidecar."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from contextlib import aclosing
from types import TracebackType

from .client import Client
from .connection import backoff
from .errors import OutriggerError, Unavailable
from .homes import Homes
from .model import Backend, Outcome, View

log = logging.getLogger("outrigger")


class Picker:
    """Picks from one view, by the shares of its backends."""

    def __init__(self, cluster: str, view: View) -> None:
        self.view = view
        self._cluster = cluster
        self._candidates = [backend for backend in view.backends.values() if backend.share]
        self._sums = list(itertools.accumulate(backend.share for backend in self._candidates))

    def pick(self) -> Backend:
        if not self._candidates:
            raise Unavailable(f"cluster `{self._cluster}`: no backend may be used")
        return random.choices(self._candidates, cum_weights=self._sums)[0]


class Balancer:
    """Picks backends of a cluster as the sidecar would, without asking it:

        async with Balancer(client, "api") as balancer:
            backend = await balancer.pick()

    Health, drains, weights and tiers follow the sidecar's view as it changes. To begin with it raises `Unavailable`
    if the sidecar is absent; when the sidecar goes away later, the last view stays.
    """

    def __init__(self, client: Client, cluster: str) -> None:
        self._client = client
        self._cluster = cluster
        self._picker = Picker(cluster, View("", 0, False, {}))
        self._homes = Homes(self._ask)
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Balancer:
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._follower = asyncio.create_task(self._follow(started))
        try:
            await started
        except BaseException:
            self._follower.cancel()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait({self._follower})

    @property
    def view(self) -> View:
        """What is picked from."""
        return self._picker.view

    async def pick(self, key: str | None = None) -> Backend:
        """A backend for one request or connection; for a key the one where the key lives, if there is one.

        Only a key that was not asked for within the last second takes a call; if that fails, the key stays where it
        was. Raises `Unavailable` if no backend may be used, and nothing else.
        """
        if key is None:
            return self._picker.pick()
        return self._at(await self._homes.find(key))

    def pick_known(self, key: str | None = None) -> Backend | None:
        """As `pick`, but from any thread, and `None` for a key that would have to be asked for."""
        if key is None:
            return self._picker.pick()
        home = self._homes.known(key)
        return None if home is None else self._at(home)

    def report(self, backend: Backend, outcome: Outcome, latency: float | None = None) -> None:
        """Tells the sidecar soon, and at best effort, what came of a pick and in how many seconds the backend
        answered: in direct mode it sees nothing of that."""
        self._client.report_soon(self._cluster, backend.name, outcome, latency=latency)

    def _at(self, home: str) -> Backend:
        return self.view.backends.get(home) or self._picker.pick()

    async def _ask(self, key: str) -> str:
        return (await self._client.affinity(self._cluster, key)).backend

    async def _follow(self, started: asyncio.Future[None]) -> None:
        delays = backoff()
        while True:
            try:
                async with aclosing(self._client.watch(self._cluster)) as views:
                    async for view in views:
                        self._picker = Picker(self._cluster, view)
                        self._homes.follow(view)
                        if not started.done():
                            started.set_result(None)
                        delays = backoff()
            except OutriggerError as error:
                if not started.done():
                    started.set_exception(error)
                    return
                log.warning("cluster %s: the last view stays: %s", self._cluster, error)
            await asyncio.sleep(next(delays))
