"""The event loop in which blocking code has its work done, in a thread beside those of the app."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from .errors import Unavailable

Answer = TypeVar("Answer")


class Loop:
    """The thread with the event loop, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._ended = False

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Has this done, and waits for the answer."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._running())
        except Unavailable:
            work.close()
            raise
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise Unavailable("the client is closed") from None
        finally:
            # Whoever is interrupted while it waits has no use for the answer.
            future.cancel()

    def soon(self, work: Callable[[], None]) -> None:
        """Has this done, unless nobody can do it any more."""
        with suppress(Unavailable):
            self._running().call_soon_threadsafe(work)

    def _running(self) -> asyncio.AbstractEventLoop:
        # Before the lock, which another thread may have held when the process was forked.
        if self._loop is not None and self._process != os.getpid():
            raise Unavailable("outrigger.sync was used before this process was forked")
        with self._lock:
            if self._ended:
                raise Unavailable("the process is ending")
            if self._loop is None:
                self._process = os.getpid()
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="outrigger", daemon=True).start()
                atexit.register(self._end, self._loop)
            return self._loop

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leaves nothing under way, which would be complained about, and nobody waiting for this thread."""
        if self._process != os.getpid():
            return
        with self._lock:
            self._ended = True
        ending = asyncio.run_coroutine_threadsafe(_cancel_all(), loop)
        with suppress(concurrent.futures.TimeoutError):
            ending.result(1)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


LOOP = Loop()
