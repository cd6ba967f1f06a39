"""Bodies of 64 MiB, up and down, between a client and a backend that do nothing but move them."""

import contextlib
import multiprocessing
import os
import socket
import threading
import time

from . import peers
from .bed import LOAD_CORE, cpu, free_port

PACKAGES = {}
PEERS = peers.HTTP
TITLE = "bodies of 64 MiB"
COLUMNS = {
    "upload: CPU s per GB": "{up:.2f}",
    "upload: GB/s": "{up_rate:.2f}",
    "download: CPU s per GB": "{down:.2f}",
    "download: GB/s": "{down_rate:.2f}",
}
COMPARED = {"CPU per GB up": "up", "CPU per GB down": "down"}

SIZE = 64 << 20
# CPU time is counted in ticks of 10 ms: enough bodies that one tick is no matter.
BODIES = 16
MiB = 1 << 20


def start_backends(bed):
    """One that takes what is posted, and answers every GET with a body."""
    listener = socket.create_server(("127.0.0.1", free_port()))
    process = multiprocessing.get_context("fork").Process(target=serve, args=(listener,))
    process.start()
    bed.forked.append(process)
    return [f"127.0.0.1:{listener.getsockname()[1]}"]


def serve(listener):
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=answer, args=(stream,), daemon=True).start()


def answer(stream):
    payload, scrap = bytes(SIZE), bytearray(MiB)
    # A proxy may keep a connection open, or reset it when it ends.
    with stream, contextlib.suppress(ConnectionError):
        while head := read_head(stream):
            if head.startswith(b"POST"):
                skip(stream, scrap, SIZE - len(head.partition(b"\r\n\r\n")[2]))
                stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            else:
                stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
                stream.sendall(payload)


def measure(proxy, port, seconds):
    """As many bodies whatever the seconds."""
    up, up_rate = transfer(proxy, port, upload=True)
    down, down_rate = transfer(proxy, port, upload=False)
    return {"up": up, "up_rate": up_rate, "down": down, "down_rate": down_rate}


def transfer(proxy, port, upload):
    """CPU seconds of the proxy per GB, and GB per second."""
    payload, scrap = bytes(SIZE), bytearray(MiB)
    with socket.create_connection(("127.0.0.1", port)) as stream:
        before, start = cpu(proxy.pid), time.monotonic()
        for _ in range(BODIES):
            if upload:
                stream.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE)
                stream.sendall(payload)
                check(read_head(stream))
            else:
                stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                head = read_head(stream)
                check(head)
                skip(stream, scrap, SIZE - len(head.partition(b"\r\n\r\n")[2]))
        seconds, after = time.monotonic() - start, cpu(proxy.pid)
    gigabytes = SIZE * BODIES / 1e9
    return (sum(after) - sum(before)) / gigabytes, gigabytes / seconds


def read_head(stream):
    """The head and what came with it; nothing at the end of the stream."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = stream.recv(64 << 10)
        if not piece:
            return b""
        head += piece
    return head


def skip(stream, scrap, left):
    while left > 0:
        read = stream.recv_into(scrap, min(left, len(scrap)))
        if read == 0:
            raise EOFError("the body broke off")
        left -= read


def check(head):
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise ValueError(f"not a 200: {head!r}")
