"""Outcomes that are told together: a call for each would cost more than what is reported."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from .errors import OutriggerError, Unavailable
from .model import Outcome

log = logging.getLogger("outrigger")

# Seconds for which outcomes are collected.
_PERIOD = 0.1
# Outcomes of one report, as the sidecar takes them.
_MAX_COUNT = 1000
# Reports that wait. What comes on top is lost: a sidecar that cannot follow has no use for it later.
_MAX_WAITING = 10_000


class _Report(Protocol):
    def __call__(
        self, cluster: str, backend: str, outcome: Outcome, *, latency: float | None, count: int
    ) -> Awaitable[None]: ...


@dataclass
class _Run:
    """The same outcome several times in a row. The order of different ones matters: a success ends a streak."""

    cluster: str
    backend: str
    outcome: Outcome
    count: int = 0
    timed: int = 0
    """How many of them have a latency."""
    latency: float = 0
    """Seconds, of all those."""

    def add(self, latency: float | None) -> None:
        self.count += 1
        if latency is not None:
            self.timed += 1
            self.latency += latency

    def mean(self) -> float | None:
        return self.latency / self.timed if self.timed else None


class Reports:
    """What is still to be told, in order for each backend."""

    def __init__(self, report: _Report) -> None:
        self._report = report
        self._waiting: deque[_Run] = deque()
        self._latest: dict[tuple[str, str], _Run] = {}
        """The run of each backend that may still grow."""
        self._sender: asyncio.Task[None] | None = None

    def add(self, cluster: str, backend: str, outcome: Outcome, latency: float | None) -> None:
        run = self._latest.get((cluster, backend))
        if run is None or run.outcome is not outcome or run.count == _MAX_COUNT:
            if len(self._waiting) == _MAX_WAITING:
                return
            run = _Run(cluster, backend, outcome)
            self._waiting.append(run)
            self._latest[cluster, backend] = run
        run.add(latency)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_later())

    async def close(self) -> None:
        """Tells at once what waits."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait({self._sender})
        await self._send()

    async def _send_later(self) -> None:
        while self._waiting:
            await asyncio.sleep(_PERIOD)
            await self._send()

    async def _send(self) -> None:
        runs, self._waiting, self._latest = self._waiting, deque(), {}
        for run in runs:
            try:
                await self._report(
                    run.cluster, run.backend, run.outcome, latency=run.mean(), count=run.count
                )
            except Unavailable as error:
                # The others would each wait for as long.
                log.debug("outcomes are lost: %s", error)
                return
            except OutriggerError as error:
                log.debug("outcomes of %s are lost: %s", run.backend, error)
