from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fake import Fake
from outrigger import Client


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
