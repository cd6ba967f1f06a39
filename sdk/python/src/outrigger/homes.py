"""Where keys lead, as the sidecar said not long ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from .errors import OutriggerError, Unavailable
from .model import State, View

# Seconds until a key is asked for again: nothing else tells that its pin has moved.
_AGE = 1.0
# Keys that are remembered; as many as a sidecar pins.
_MAX_KEYS = 65_536


class Homes:
    """The names of the backends where keys lead, empty for those that the policy decides about.

    A key is asked for once, and again when the answer is a second old or something has changed in the view that may
    move it. Only the event loop changes anything here; any thread may call `known`.
    """

    def __init__(self, ask: Callable[[str], Awaitable[str]]) -> None:
        self._ask = ask
        self._homes: dict[str, tuple[str, int, float]] = {}
        """Of each key its home, the generation of the answer, and until when that counts."""
        self._asking: dict[str, asyncio.Task[str]] = {}
        self._generation = 0
        self._rest_until = 0.0
        """Until when an absent sidecar is not asked; 0: it was there."""
        self._usable: dict[str, tuple[State, bool, int]] = {}

    def follow(self, view: View) -> None:
        """Outdates all answers if other backends may be used now, or pins have come or gone."""
        usable = {b.name: (b.state, b.share > 0, b.pins) for b in view.backends.values()}
        if usable != self._usable:
            self._usable = usable
            self._generation += 1

    def known(self, key: str) -> str | None:
        """The home of the key; `None` if it has to be asked for."""
        home, generation, until = self._homes.get(key, ("", -1, 0.0))
        return home if generation == self._generation and time.monotonic() < until else None

    async def find(self, key: str) -> str:
        """The home of the key. Where the sidecar cannot say, it is where it was."""
        home = self.known(key)
        if home is not None:
            return home
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._learn(key))
            asking.add_done_callback(lambda _: self._asking.pop(key))
        # Others wait for the same answer, whatever becomes of this one.
        return await asyncio.shield(asking)

    async def _learn(self, key: str) -> str:
        generation, now = self._generation, time.monotonic()
        last, _, _ = self._homes.get(key, ("", 0, 0.0))
        if now < self._rest_until:
            return last
        if self._rest_until:
            # It was absent; one finds out for all whether it is back.
            self._rest_until = now + _AGE
        try:
            home = await self._ask(key)
            self._rest_until = 0.0
        except Unavailable:
            self._rest_until = time.monotonic() + _AGE
            return last
        except OutriggerError:
            home = last
        self._remember(key, home, generation)
        return home

    def _remember(self, key: str, home: str, generation: int) -> None:
        self._homes.pop(key, None)
        if len(self._homes) == _MAX_KEYS:
            del self._homes[next(iter(self._homes))]
        self._homes[key] = (home, generation, time.monotonic() + _AGE)
