"""The way to the sidecar: where it listens, who calls, how long a call may take, and which calls are tried again."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration

from ._generated import control_pb2_grpc as pb_grpc
from .errors import DeadlineExceeded, Denied, InvalidArgument, Unavailable, from_rpc

DEFAULT_ADDRESS = "127.0.0.1:9911"
DEFAULT_TIMEOUT = 2.0

Request = TypeVar("Request")
Response = TypeVar("Response")
Parameters = ParamSpec("Parameters")

_SERVICE = "outrigger.v1.ControlService"
# What was lost on the way may have been done: an outcome would count twice, and the answer to the second attempt to
# take a pin back would be that there was none. All else comes to the same when it is asked for again.
_NOT_REPEATED = ("ReportOutcome", "ClearAffinity")
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": _SERVICE}],
            "retryPolicy": {
                # About a third of a second for a sidecar that is absent.
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
        {"name": [{"service": _SERVICE, "method": method} for method in _NOT_REPEATED]},
    ]
}
_OPTIONS = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # The sidecar is a neighbour, whatever `http_proxy` is set for.
    ("grpc.enable_http_proxy", 0),
    # A sidecar that restarts is back within a second, and by default would be found after minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Notices that the machine of a sidecar has vanished, from which streams hear nothing anyway.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


@dataclass(frozen=True)
class Tls:
    """How to speak TLS with a sidecar. Files hold PEM."""

    ca_file: str | os.PathLike[str] | None = None
    """Who may sign the sidecar's certificate; `None`: whom the system trusts."""
    cert_file: str | os.PathLike[str] | None = None
    """The app's own certificate, with `key_file`."""
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None
    """What the sidecar's certificate must name; `None`: the host of the address."""


class Connection:
    """One channel to one sidecar, opened by the first call, in the event loop of that call."""

    def __init__(
        self,
        address: str | None,
        *,
        token: str | None,
        token_file: str | os.PathLike[str] | None,
        tls: Tls | None,
        timeout: float,
    ) -> None:
        self.address = address or os.environ.get("OUTRIGGER_CONTROL") or DEFAULT_ADDRESS
        self.timeout = timeout
        self.closed = False
        self._target = _target(self.address)
        self._token = token
        self._token_file = token_file or os.environ.get("OUTRIGGER_CONTROL_TOKEN_FILE")
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None
        self._stub: pb_grpc.ControlServiceAsyncStub | None = None

    @property
    def stub(self) -> pb_grpc.ControlServiceAsyncStub:
        if self.closed:
            raise Unavailable("the client is closed")
        if self._stub is None:
            self._channel = self._open()
            self._stub = pb_grpc.ControlServiceStub(self._channel)
        return self._stub

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries. A token file is read each time, so that a new token needs no restart."""
        token = self._token
        if token is None and self._token_file:
            token = _read(self._token_file).decode(errors="replace").strip()
        if token is None:
            return ()
        if not (token.isascii() and token.isprintable()):
            raise _not_known("the token has characters that no header may have")
        return (("authorization", f"Bearer {token}"),)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        extra: float = 0,
    ) -> Response:
        """Calls, and waits no longer than the timeout and this much `extra`."""
        return await self._call(method, request, self.timeout + extra)

    async def call_without_end(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request
    ) -> Response:
        """Calls what may take as long as it likes."""
        return await self._call(method, request, None)

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        try:
            return await method(request, timeout=timeout, metadata=self.metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error

    async def first(self, read: Awaitable[Response]) -> Response:
        """The first message of a stream: without a time for it a sidecar that hangs would be waited for forever."""
        try:
            return await asyncio.wait_for(read, self.timeout)
        except asyncio.TimeoutError:
            raise DeadlineExceeded(f"no answer within {self.timeout} s") from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error

    async def close(self) -> None:
        self.closed = True
        if self._channel is not None:
            await self._channel.close()

    def _open(self) -> grpc.aio.Channel:
        options: list[tuple[str, str | int]] = [*_OPTIONS]
        if self._target.startswith("unix:"):
            # By default it is the path, which servers in Rust take for malformed.
            options.append(("grpc.default_authority", "localhost"))
        tls = self._tls
        if tls is None:
            return grpc.aio.insecure_channel(self._target, options=options)
        ca, cert, key = (file and _read(file) for file in (tls.ca_file, tls.cert_file, tls.key_file))
        credentials = grpc.ssl_channel_credentials(ca or None, key or None, cert or None)
        if tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        return grpc.aio.secure_channel(self._target, credentials, options=options)


def build(make: Callable[Parameters, Request], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Request:
    """The request with these fields, where what no field can hold is refused as the sidecar would."""
    try:
        return make(*args, **kwargs)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(str(error)) from error


def duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    made = Duration()
    build(lambda: made.FromNanoseconds(round(seconds * 1e9)))
    return made


def backoff() -> Iterator[float]:
    """How many seconds to wait before each further attempt."""
    delay = 0.05
    while True:
        # Not all apps of a machine at once when their sidecar is back.
        yield random.uniform(delay / 2, delay)
        delay = min(2 * delay, 1.0)


def _target(address: str) -> str:
    """The address as gRPC names it."""
    if address.startswith("unix:") and len(address) > len("unix:"):
        return address
    host, colon, port = address.rpartition(":")
    if host and colon and port.isdecimal() and int(port) <= 65535:
        return f"dns:///{address}"
    raise InvalidArgument(f"address must be unix:PATH or HOST:PORT, got {address!r}")


def _read(file: str | os.PathLike[str]) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise _not_known(f"cannot read {os.fspath(file)}: {error.strerror}") from error


def _not_known(message: str) -> Denied:
    return Denied(message, grpc.StatusCode.UNAUTHENTICATED)
