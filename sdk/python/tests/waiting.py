"""Waiting for what shows only when one looks."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


def until(holds: Callable[[], bool], within: float = 10) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.01)


async def eventually(holds: Callable[[], bool | Awaitable[bool]], within: float = 10) -> None:
    """As `until`, in an event loop."""
    deadline = time.monotonic() + within
    while True:
        answer = holds()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.01)
