"""Orders that end with the app: a lease is a stream, and what was ordered under it ends when the stream does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeAlias

import grpc

from ._generated import control_pb2 as pb
from .connection import Connection, Response, backoff, build, duration
from .errors import Exhausted, NotFound, OutriggerError, Unavailable
from .model import Backend
from .refusal import Refusal

log = logging.getLogger("outrigger")

# How many orders are given again at a time.
_AT_A_TIME = 16

_Stream: TypeAlias = "grpc.aio.StreamStreamCall[pb.OpenLeaseRequest, pb.OpenLeaseResponse]"
# What an owner has one order of: kind, cluster, and backend or key.
_Subject: TypeAlias = tuple[str, str, str]


@dataclass(eq=False)
class _Order:
    """An order that is remembered."""

    method: Any = None
    request: Any = None
    """`None`: it has not been carried out yet, or is forgotten."""
    given_under: str = ""
    """The lease that it was given under last."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is given, so that an old one never overtakes a new one."""


class Lease:
    """A lease, and all orders given through it until they are cleared; see `Client.lease`.

    When the sidecar restarts the lease is opened again and its orders are given again; one that the sidecar refuses
    meanwhile, such as for a backend that it has not discovered yet, is repeated until it is accepted. While there is
    no sidecar, orders raise `Unavailable` and are not remembered.
    """

    def __init__(self, connection: Connection, owner: str) -> None:
        self._connection = connection
        self._owner = owner
        self._opening = build(pb.OpenLeaseRequest, owner=owner)
        self._orders: dict[_Subject, _Order] = {}
        self._id = ""
        self._why_not = "its block has not been entered"
        self._settled = asyncio.Event()
        """Whether `_id` or `_why_not` tells how the last attempt to open a stream ended."""
        self._settled.set()
        self._leaving = False
        self._stream: _Stream | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Lease:
        stream = await self._open()
        self._keeper = asyncio.create_task(self._keep(stream))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._keeper is None:
            return
        self._leaving = True
        if self._id and self._stream is not None:
            # The sidecar ends its side too, so that what comes after the block comes after the lease.
            with suppress(grpc.aio.AioRpcError, grpc.aio.InternalError):
                await self._stream.done_writing()
            await asyncio.wait({self._keeper}, timeout=self._connection.timeout)
        self._keeper.cancel()
        await asyncio.wait({self._keeper})
        self._id, self._why_not = "", "its block has been left"
        self._settled.set()

    async def set_weight(self, cluster: str, backend: str, weight: int) -> Backend:
        """As `Client.set_weight`, for as long as the lease."""
        request = build(pb.SetWeightRequest, cluster=cluster, backend=backend, weight=weight)
        subject = ("weight", cluster, backend)
        answer = await self._give(subject, self._connection.stub.SetWeight, request)
        return Backend._of(answer.backend)

    async def scale_weight(self, cluster: str, backend: str, factor: float) -> Backend:
        """As `Client.scale_weight`, for as long as the lease."""
        request = build(pb.SetWeightRequest, cluster=cluster, backend=backend, factor=factor)
        subject = ("weight", cluster, backend)
        answer = await self._give(subject, self._connection.stub.SetWeight, request)
        return Backend._of(answer.backend)

    async def clear_weight(self, cluster: str, backend: str) -> Backend:
        """Takes the lease's order of weight back. It is forgotten even if this raises."""
        request = build(pb.ClearWeightRequest, cluster=cluster, backend=backend)
        async with self._forgotten(("weight", cluster, backend)):
            answer, _ = await self._send(self._connection.stub.ClearWeight, request)
        return Backend._of(answer.backend)

    async def set_affinity(self, cluster: str, key: str, backend: str = "") -> str:
        """As `Client.set_affinity`, for as long as the lease."""
        request = build(pb.SetAffinityRequest, cluster=cluster, key=key, backend=backend)
        subject = ("pin", cluster, key)
        answer = await self._give(subject, self._connection.stub.SetAffinity, request)
        # Given again it is for the backend where the key lives, not for wherever that would be then.
        request.backend = answer.backend
        return answer.backend

    async def clear_affinity(self, cluster: str, key: str) -> bool:
        """As `Client.clear_affinity`. The pin is forgotten even if this raises."""
        request = build(pb.ClearAffinityRequest, cluster=cluster, key=key)
        async with self._forgotten(("pin", cluster, key)):
            answer = await self._connection.call(self._connection.stub.ClearAffinity, request)
        return answer.cleared

    async def drain(self, cluster: str, backend: str, *, timeout: float | None = None) -> Backend:
        """As `Client.drain`, for as long as the lease."""
        request = build(
            pb.DrainRequest, cluster=cluster, backend=backend, timeout=duration(timeout)
        )
        subject = ("drain", cluster, backend)
        answer = await self._give(subject, self._connection.stub.Drain, request)
        return Backend._of(answer.backend)

    async def resume(self, cluster: str, backend: str) -> Backend:
        """Takes the lease's drain back. It is forgotten even if this raises."""
        request = build(pb.ResumeRequest, cluster=cluster, backend=backend)
        async with self._forgotten(("drain", cluster, backend)):
            answer, _ = await self._send(self._connection.stub.Resume, request)
        return Backend._of(answer.backend)

    async def _give(
        self,
        subject: _Subject,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, Response],
        request: Any,
    ) -> Response:
        """Gives an order, and remembers it once it is carried out."""
        order = self._orders.setdefault(subject, _Order())
        async with order.lock:
            try:
                answer, lease_id = await self._send(method, request)
            except BaseException:
                if order.request is None:
                    self._orders.pop(subject, None)
                raise
            order.method, order.request, order.given_under = method, request, lease_id
            self._orders[subject] = order
        return answer

    @asynccontextmanager
    async def _forgotten(self, subject: _Subject) -> AsyncIterator[None]:
        """Forgets an order; then it is not under way any more either, and may be taken back."""
        order = self._orders.pop(subject, None) or _Order()
        async with order.lock:
            order.request = None
            yield

    async def _send(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Any, Response], request: Any
    ) -> tuple[Response, str]:
        """Calls under the lease as it is now, and tells which that was."""
        while True:
            await self._connection.first(self._settled.wait())
            lease_id = request.lease_id = self._id
            if not lease_id:
                raise Unavailable(f"there is no lease: {self._why_not}")
            try:
                answer = await self._connection.call(method, request)
            except NotFound as error:
                if error.kind != "lease":
                    raise
                if self._id == lease_id:
                    raise Unavailable("the lease has ended, and is being opened again") from error
            else:
                # Else another was opened meanwhile, whose renewal did not know of this order yet.
                if self._id in (lease_id, ""):
                    return answer, lease_id

    async def _keep(self, stream: _Stream) -> None:
        """Holds the stream, and opens another whenever it has ended."""
        while True:
            renewal = asyncio.create_task(self._renew(self._id))
            try:
                while await stream.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError:
                pass
            finally:
                renewal.cancel()
            self._id = ""
            if self._leaving:
                return
            reopened = await self._reopen()
            if reopened is None:
                return
            stream = reopened

    async def _reopen(self) -> _Stream | None:
        """Another stream; `None` once the client is closed."""
        delays = backoff()
        while not self._connection.closed:
            self._settled.clear()
            try:
                return await self._open()
            except OutriggerError as error:
                self._why_not = str(error)
                self._settled.set()
            await asyncio.sleep(next(delays))
        return None

    async def _open(self) -> _Stream:
        stream = self._connection.stub.OpenLease(metadata=self._connection.metadata())
        try:
            self._id = await self._connection.first(self._begin(stream))
        except BaseException:
            stream.cancel()
            raise
        self._stream = stream
        self._settled.set()
        return stream

    async def _begin(self, stream: _Stream) -> str:
        refusal = Refusal(stream)
        try:
            await stream.write(self._opening)
            answer = await stream.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise await refusal.why() from None
        if not isinstance(answer, pb.OpenLeaseResponse):
            raise Unavailable("the sidecar ended the lease at once")
        return answer.lease_id

    async def _renew(self, lease_id: str) -> None:
        """Gives all orders of earlier streams again, until each has been accepted."""
        room = asyncio.Semaphore(_AT_A_TIME)

        async def again(order: _Order) -> OutriggerError | None:
            async with room, order.lock:
                if order.request is None or order.given_under == lease_id:
                    return None
                order.request.lease_id = lease_id
                try:
                    await self._connection.call(order.method, order.request)
                except OutriggerError as error:
                    return error
                order.given_under = lease_id
                return None

        for delay in backoff():
            old = [o for o in self._orders.values() if o.request and o.given_under != lease_id]
            errors = [error for error in await asyncio.gather(*map(again, old)) if error]
            if not errors:
                return
            waits = [e.retry_after for e in errors if isinstance(e, Exhausted) and e.retry_after]
            if len(waits) < len(errors):
                log.warning("lease %s: %d orders are not accepted yet: %s", self._owner, len(errors), errors[0])
            await asyncio.sleep(max([delay, *waits]))
