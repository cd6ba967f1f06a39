"""Why a sidecar refuses a stream of requests, which gRPC may forget."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

from .errors import OutriggerError, from_rpc

Answer = TypeVar("Answer")


class Refusal:
    """Listens for the status of a stream.

    When the sidecar refuses a stream while its first message is under way, gRPC sets the status of the stream twice:
    to what the sidecar says, and, since the message could not be sent, to an error of its own. The latter may come
    last, and then it is all that the stream tells.
    """

    def __init__(self, stream: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        self._stream = stream
        self._why: asyncio.Future[OutriggerError] = asyncio.get_running_loop().create_future()
        stream.add_done_callback(self._note)

    async def why(self) -> OutriggerError:
        """What the sidecar has said, or will in a moment."""
        return await self._why

    def _note(self, _: Any) -> None:
        code, details = _at_once(self._stream.code()), _at_once(self._stream.details())
        of_grpc = code is grpc.StatusCode.INTERNAL and details == "Internal error from Core"
        if not (of_grpc or self._why.done()):
            trailers = _at_once(self._stream.trailing_metadata())
            error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details)
            self._why.set_result(from_rpc(error))


def _at_once(answer: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer of what need not wait, since there is a status."""
    try:
        answer.send(None)
    except StopIteration as done:
        value: Answer = done.value
        return value
    raise AssertionError("a stream that is done has a status")
