"""How keys travel: with the clients that apps use, to servers that say what they got. No sidecar is there."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import grpc
import httpx
import pytest
import requests
from outrigger import (
    InvalidArgument,
    affinity_headers,
    grpc_aio_interceptors,
    grpc_interceptor,
    httpx_hook,
    proxy_header,
    requests_auth,
)

session: ContextVar[str | None] = ContextVar("session", default=None)


class _Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the key that the request carries."""

    def do_GET(self) -> None:
        key = str(self.headers.get_all("x-outrigger-affinity")).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(key)))
        self.end_headers()
        self.wfile.write(key)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def grpc_echo() -> Iterator[str]:
    """Answers every call, of whatever kind, with the key that it carries."""

    def key(context: grpc.ServicerContext) -> bytes:
        metadata = context.invocation_metadata()
        return str([value for name, value in metadata if name == "x-outrigger-affinity"]).encode()

    def one(_request: Any, context: grpc.ServicerContext) -> bytes:
        return key(context)

    def many(_request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield key(context)

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(one),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(many),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(one),
        "StreamStream": grpc.stream_stream_rpc_method_handler(many),
    }
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        server.add_registered_method_handlers("Echo", handlers)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def test_headers_carry_the_key() -> None:
    assert affinity_headers("session-42") == {"x-outrigger-affinity": "session-42"}
    assert affinity_headers(session.get) == {}


def test_httpx_carries_the_key(echo: str) -> None:
    with httpx.Client(event_hooks={"request": [httpx_hook("session-42")]}) as client:
        assert client.get(echo).text == "['session-42']"


async def test_httpx_carries_the_key_of_the_task(echo: str) -> None:
    async with httpx.AsyncClient(event_hooks={"request": [httpx_hook(session.get)]}) as client:
        assert (await client.get(echo)).text == "None"
        session.set("session-43")
        assert (await client.get(echo)).text == "['session-43']"


def test_requests_carries_the_key(echo: str) -> None:
    with requests.Session() as client:
        client.auth = requests_auth("session-42")
        assert client.get(echo).text == "['session-42']"
        # Another for one request takes its place.
        assert client.get(echo, auth=requests_auth("session-43")).text == "['session-43']"


def test_grpc_carries_the_key(grpc_echo: str) -> None:
    with grpc.insecure_channel(grpc_echo) as plain:
        channel: Any = grpc.intercept_channel(plain, grpc_interceptor("session-42"))
        answers = [
            channel.unary_unary("/Echo/UnaryUnary")(b"", metadata=(("other", "1"),)),
            *channel.unary_stream("/Echo/UnaryStream")(b""),
            channel.stream_unary("/Echo/StreamUnary")(iter([b""])),
            *channel.stream_stream("/Echo/StreamStream")(iter([b""])),
        ]
    assert answers == [b"['session-42']"] * 4


async def test_grpc_of_asyncio_carries_the_key(grpc_echo: str) -> None:
    async def requests() -> AsyncIterator[bytes]:
        yield b""

    interceptors = grpc_aio_interceptors(lambda: "session-42")
    channel: Any
    async with grpc.aio.insecure_channel(grpc_echo, interceptors=interceptors) as channel:
        answers = [
            await channel.unary_unary("/Echo/UnaryUnary")(b"", metadata=(("other", "1"),)),
            *[answer async for answer in channel.unary_stream("/Echo/UnaryStream")(b"")],
            await channel.stream_unary("/Echo/StreamUnary")(requests()),
            *[answer async for answer in channel.stream_stream("/Echo/StreamStream")(requests())],
        ]
    assert answers == [b"['session-42']"] * 4


SIGNATURE = "0d0a0d0a000d0a515549540a"


def test_proxy_headers_have_the_addresses_and_the_key() -> None:
    """By the letter of proxy-protocol.txt, section 2.2; the sidecar reads them in the tests against it."""
    header = proxy_header("key", ("192.0.2.1", 56324), ("198.51.100.7", 443))
    assert header.hex() == f"{SIGNATURE}21110012c0000201c6336407dc0401bbe000036b6579"
    v6 = ("2001:db8::1", 56324, 0, 0), ("2001:db8:7::2", 443, 0, 0)
    header = proxy_header("key", *v6)
    addresses = "20010db8000000000000000000000001" "20010db8000700000000000000000002" "dc0401bb"
    assert header.hex() == f"{SIGNATURE}2121002a{addresses}e000036b6579"
    # Of an IPv4 and an IPv6 address the former is mapped.
    header = proxy_header("key", ("192.0.2.1", 56324), v6[1])
    addresses = "00000000000000000000ffffc0000201" "20010db8000700000000000000000002" "dc0401bb"
    assert header.hex() == f"{SIGNATURE}2121002a{addresses}e000036b6579"
    # A link-local address has a zone.
    proxy_header("key", ("fe80::1%lo", 1, 0, 1), v6[1])


def test_proxy_headers_of_unix_sockets_have_the_key_alone() -> None:
    near, far = socket.socketpair(socket.AF_UNIX)
    with near, far:
        header = proxy_header("ü", near.getsockname(), near.getpeername())
    assert header.hex() == f"{SIGNATURE}21000005e00002c3bc"


def test_keys_and_addresses_that_no_header_can_have_are_refused() -> None:
    v4 = ("192.0.2.1", 56324)
    assert len(proxy_header("k" * 256, v4, v4)) == 28 + 3 + 256
    for key in ("", "k" * 257, "ü" * 129, "\ud800"):
        with pytest.raises(InvalidArgument):
            proxy_header(key, v4, v4)
    for address in (("localhost", 80), ("192.0.2.1", 65536), ("192.0.2.1", -1)):
        with pytest.raises(InvalidArgument):
            proxy_header("key", address, v4)
