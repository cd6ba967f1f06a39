"""A sidecar for faults that a real one does not give: it says what a test wants, and breaks off when a test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from outrigger._generated import control_pb2 as pb

Context = Any
Behaviour = Callable[[Any, Context], Awaitable[Any]]

_SERVICE = pb.DESCRIPTOR.services_by_name["ControlService"]


class Fake:
    """Answers every call with an empty message, but for what `behave` says."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.metadata: dict[str, str] = {}
        """What the latest call carried."""
        self.leases: set[str] = set()
        self.watches: list[pb.WatchClusterRequest] = []
        self.watching = 0
        """How many watch now."""
        self.changes: asyncio.Queue[pb.WatchClusterResponse] = asyncio.Queue()
        """What watches are told."""
        self.happened = asyncio.Condition()
        self._behaviours: dict[str, Behaviour] = {}
        self._opened = 0
        self._broken = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    def behave(self, method: str, behaviour: Behaviour) -> None:
        self._behaviours[method] = behaviour

    async def start(self, address: str = "127.0.0.1:0") -> str:
        """Listens, and tells where."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {method.name: self._handler(method) for method in _SERVICE.methods}
        self._server.add_registered_method_handlers(_SERVICE.full_name, handlers)
        port = self._server.add_insecure_port(address)
        await self._server.start()
        return address if address.startswith("unix:") else f"127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def break_streams(self) -> None:
        """Ends all streams that are open, as a sidecar does that ends."""
        self._broken.set()
        self._broken = asyncio.Event()

    def asked(self, method: str) -> list[Any]:
        """The requests of that method, in their order."""
        return [request for name, request in self.calls if name == method]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for what calls bring about."""
        async with self.happened:
            await asyncio.wait_for(self.happened.wait_for(holds), 5)

    async def heard(self, method: str, request: Any, context: Context) -> None:
        self.calls.append((method, request))
        self.metadata = dict(context.invocation_metadata())
        await self._notify()

    async def _notify(self) -> None:
        async with self.happened:
            self.happened.notify_all()

    def _handler(self, method: Any) -> Any:
        answer = getattr(pb, method.output_type.name)

        async def unary(request: Any, context: Context) -> Any:
            await self.heard(method.name, request, context)
            asked = self._behaviours.get(method.name)
            answered = await asked(request, context) if asked else None
            return answer() if answered is None else answered

        make: Any
        behaviour: Any
        if method.client_streaming:
            make, behaviour = grpc.stream_stream_rpc_method_handler, self.lease
        elif method.server_streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, self.watch
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, unary
        request = getattr(pb, method.input_type.name)
        return make(behaviour, request.FromString, answer.SerializeToString)

    async def lease(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        request = await anext(requests)
        await self.heard("OpenLease", request, context)
        if behaviour := self._behaviours.get("OpenLease"):
            await behaviour(request, context)
        self._opened += 1
        lease_id = f"lease-{self._opened}"
        self.leases.add(lease_id)
        broken = asyncio.ensure_future(self._broken.wait())
        left = asyncio.ensure_future(anext(requests, None))
        try:
            yield pb.OpenLeaseResponse(lease_id=lease_id)
            await asyncio.wait({broken, left}, return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
        finally:
            broken.cancel()
            left.cancel()
            self.leases.discard(lease_id)
            await self._notify()

    async def watch(self, request: Any, context: Context) -> AsyncIterator[Any]:
        self.watches.append(request)
        await self.heard("WatchCluster", request, context)
        if behaviour := self._behaviours.get("WatchCluster"):
            await behaviour(request, context)
        broken = asyncio.ensure_future(self._broken.wait())
        self.watching += 1
        try:
            while True:
                change = asyncio.ensure_future(self.changes.get())
                await asyncio.wait({broken, change}, return_when=asyncio.FIRST_COMPLETED)
                if change.done():
                    yield change.result()
                    await self._notify()
                    continue
                await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
        finally:
            # Else it would swallow what the next watch is to be told.
            change.cancel()
            broken.cancel()
            self.watching -= 1
            await self._notify()


def fails(code: grpc.StatusCode, message: str, *details: Message, times: int = 1_000_000) -> Behaviour:
    """Fails so many times like this, with details as the real one gives them, and then answers nothing."""
    left = times

    async def behaviour(_request: Any, context: Context) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            return None
        await abort(context, code, message, *details)

    return behaviour


async def abort(context: Context, code: grpc.StatusCode, message: str, *details: Message) -> None:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=code.value[0], message=message, details=packed)
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, message, trailers)
