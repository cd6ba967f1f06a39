"""How an app's HTTP requests carry the key that they are pinned by.

Nothing here speaks with a sidecar, or fails without one. Where a key is wanted it may also be a function that is asked
at each request, of a `ContextVar` for example; what it answers with `None` carries no key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import httpx
    import requests

HEADER = "x-outrigger-affinity"

Key: TypeAlias = "str | Callable[[], str | None]"


def affinity_headers(key: Key) -> dict[str, str]:
    """The header by which a request goes to the backend of this key."""
    value = key() if callable(key) else key
    return {} if value is None else {HEADER: value}


def httpx_hook(key: Key) -> Callable[[httpx.Request], Awaitable[None]]:
    """For `httpx.Client` and `httpx.AsyncClient`: `event_hooks={"request": [httpx_hook(key)]}`."""

    def hook(request: httpx.Request) -> Awaitable[None]:
        request.headers.update(affinity_headers(key))
        return _DONE

    return hook


def requests_auth(
    key: Key,
) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """For `requests`: `session.auth = requests_auth(key)`, or `auth=` of a request."""

    def auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(affinity_headers(key))
        return request

    return auth


class _Done(Awaitable[None]):
    """Something to await for those who do, and to leave for those who do not."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()
