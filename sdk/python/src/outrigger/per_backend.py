"""What direct mode keeps for each backend, such as a gRPC channel or a pool of connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from .model import Backend, View

Kept = TypeVar("Kept")


class _HasView(Protocol):
    @property
    def view(self) -> View: ...


class PerBackend(Generic[Kept]):
    """Something for each backend: made of its name when it is first asked for, and forgotten once the backend is gone.

        channels = PerBackend(balancer, grpc.aio.insecure_channel)
        stub = GreeterStub(channels.of(await balancer.pick()))
    """

    def __init__(self, balancer: _HasView, make: Callable[[str], Kept]) -> None:
        self._balancer = balancer
        self._make = make
        self._view = balancer.view
        self._kept: dict[str, Kept] = {}

    def of(self, backend: Backend) -> Kept:
        view = self._balancer.view
        if view is not self._view:
            # Whoever still uses what is forgotten here holds it, so nothing is closed.
            self._kept = {name: kept for name, kept in self._kept.items() if name in view.backends}
            self._view = view
        if backend.name not in self._kept:
            self._kept[backend.name] = self._make(backend.name)
        return self._kept[backend.name]
