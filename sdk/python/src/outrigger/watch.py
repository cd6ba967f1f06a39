"""A cluster's backends as they change: full views, whatever pieces they come in and however often the stream breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import MappingProxyType

import grpc

from ._generated import control_pb2 as pb
from .connection import Connection, backoff, build
from .errors import Denied, InvalidArgument, NotFound, OutriggerError, Unavailable, from_rpc
from .model import Backend, View

# What does not get better by asking again.
_FINAL = (NotFound, InvalidArgument, Denied)


class Assembly:
    """Makes whole views of messages."""

    def __init__(self) -> None:
        self.view = View("", 0, False, MappingProxyType({}))
        """The latest whole one; it is of no instance before the first."""
        self._next: dict[str, Backend] | None = None

    def begin(self) -> None:
        """Another stream: the rest of a change that the last one brought in part will not come."""
        self._next = None

    def apply(self, message: pb.WatchClusterResponse) -> View | None:
        """The view that this message completes, if it does."""
        if message.full:
            self._next = {}
        elif self._next is None:
            self._next = dict(self.view.backends)
        for name in message.removed:
            self._next.pop(name, None)
        for backend in message.changed:
            self._next[backend.name] = Backend._of(backend)
        if message.more:
            return None
        backends, self._next = MappingProxyType(self._next), None
        self.view = View(message.instance, message.version, message.panic, backends)
        return self.view


async def watch(connection: Connection, cluster: str) -> AsyncGenerator[View, None]:
    """See `Client.watch`."""
    assembly = Assembly()
    delays = backoff()
    while True:
        try:
            async with aclosing(_stream(connection, cluster, assembly)) as views:
                async for view in views:
                    delays = backoff()
                    yield view
        except _FINAL:
            raise
        except OutriggerError:
            if not assembly.view.instance or connection.closed:
                raise
        await asyncio.sleep(next(delays))


async def _stream(connection: Connection, cluster: str, assembly: Assembly) -> AsyncGenerator[View, None]:
    """What one stream brings."""
    assembly.begin()
    known = assembly.view
    request = build(
        pb.WatchClusterRequest, cluster=cluster, instance=known.instance, version=known.version
    )
    call = connection.stub.WatchCluster(request, metadata=connection.metadata())
    messages = aiter(call)
    try:
        if not known.instance:
            # Later there is nothing to be told until something changes.
            message = await connection.first(anext(messages, None))
            if message is None:
                raise Unavailable("the sidecar ended the watch at once")
            if view := assembly.apply(message):
                yield view
        async for message in messages:
            if view := assembly.apply(message):
                yield view
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error
    finally:
        call.cancel()
