"""How an app's gRPC calls carry the key that they are pinned by; see `outrigger.affinity`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from .affinity import Key, affinity_headers


def grpc_interceptor(key: Key) -> AffinityInterceptor:
    """For channels that block: `grpc.intercept_channel(channel, grpc_interceptor(key))`."""
    return AffinityInterceptor(key)


def grpc_aio_interceptors(key: Key) -> list[grpc.aio.ClientInterceptor]:
    """For channels of asyncio: `grpc.aio.insecure_channel(target, interceptors=grpc_aio_interceptors(key))`."""
    # An object that is of several kinds would be taken for the first only.
    kinds = (_AioUnaryUnary, _AioUnaryStream, _AioStreamUnary, _AioStreamStream)
    return [kind(key) for kind in kinds]


@dataclass
class _Details(grpc.ClientCallDetails):
    method: Any
    timeout: Any
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class AffinityInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the key to the metadata of every call."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def _intercept(self, continuation: Callable[[Any, Any], Any], call: Any, request: Any) -> Any:
        metadata = (*(call.metadata or ()), *affinity_headers(self._key).items())
        details = _Details(
            call.method,
            call.timeout,
            metadata,
            call.credentials,
            call.wait_for_ready,
            call.compression,
        )
        return continuation(details, request)

    intercept_unary_unary: Any = _intercept
    intercept_unary_stream: Any = _intercept
    intercept_stream_unary: Any = _intercept
    intercept_stream_stream: Any = _intercept


class _Aio:
    """Adds the key to the metadata of every call."""

    def __init__(self, key: Key) -> None:
        self._key = key

    async def _intercept(self, continuation: Callable[[Any, Any], Any], call: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(call.metadata or ()), *affinity_headers(self._key).items())
        return await continuation(call._replace(metadata=metadata), request)


class _AioUnaryUnary(_Aio, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary: Any = _Aio._intercept


class _AioUnaryStream(_Aio, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream: Any = _Aio._intercept


class _AioStreamUnary(_Aio, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary: Any = _Aio._intercept


class _AioStreamStream(_Aio, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream: Any = _Aio._intercept
