from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fake import Fake
from outrigger import Client
from sidecar import Backend, Sidecar


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    server = Fake()
    yield server
    server.break_streams()
    await server.stop()


@pytest.fixture
async def client(fake: Fake) -> AsyncIterator[Client]:
    """A client of the fake, which listens."""
    async with Client(await fake.start()) as client:
        yield client


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    two = [Backend(), Backend()]
    yield two
    for backend in two:
        backend.stop()


@pytest.fixture
def sidecar(tmp_path: Path, backends: list[Backend]) -> Iterator[Sidecar]:
    """The real one, in front of two backends."""
    with Sidecar(tmp_path, backends) as sidecar:
        yield sidecar
