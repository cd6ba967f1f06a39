"""The sidecar itself, and backends that say who they are."""

from __future__ import annotations

import http.client
import http.server
import os
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import outrigger
from outrigger import Cluster, affinity_headers
from waiting import until

CLUSTER = "api"


def free_addresses(names: tuple[str, ...]) -> dict[str, str]:
    """An address for each, which it has for all lives of a sidecar."""
    with ExitStack() as stack:
        # All at once: a port that is free again may come a second time.
        bound = {name: stack.enter_context(socket.socket()) for name in names}
        for unused in bound.values():
            unused.bind(("127.0.0.1", 0))
        return {name: f"127.0.0.1:{unused.getsockname()[1]}" for name, unused in bound.items()}


def named(clusters: list[Cluster], name: str) -> outrigger.Backend:
    """The backend of that name."""
    (found,) = (backend for cluster in clusters for backend in cluster.backends if backend.name == name)
    return found


class Backend:
    """Answers every request with its own name; `/slow` when it is let."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one piece; the second would wait for the first to be acknowledged.
            wbufsize = -1

            def do_GET(self) -> None:
                if self.path == "/slow":
                    backend.go_on.wait(30)
                self.send_response(200)
                self.send_header("content-length", str(len(backend.name)))
                self.end_headers()
                self.wfile.write(backend.name.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.name = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


class Sidecar:
    """`outrigger run` in front of these backends, with listeners for HTTP and for TCP with PROXY headers."""

    def __init__(self, directory: Path, backends: list[Backend], control: Mapping[str, str] = {}) -> None:
        self.backends = [backend.name for backend in backends]
        self._directory = directory
        self._addresses = free_addresses(("admin", "web", "raw", "control"))
        self._settings = {"listen": self._addresses["control"], **control}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def control(self) -> str:
        return self._settings["listen"]

    @property
    def raw(self) -> tuple[str, int]:
        host, port = self._addresses["raw"].split(":")
        return host, int(port)

    @property
    def url(self) -> str:
        return f"http://{self._addresses['web']}/"

    def __enter__(self) -> Sidecar:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts, at the same addresses each time, and waits until it is ready."""
        config = self._directory / "outrigger.toml"
        config.write_text(self._config())
        with (self._directory / "log").open("ab") as log:
            command = [os.environ["OUTRIGGER_BIN"], "run", "-c", str(config)]
            self._process = subprocess.Popen(command, stderr=log)
        until(self._is_ready)

    def kill(self) -> None:
        """As a crash would, or whoever is short of memory."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def get(self, key: str | None = None, path: str = "/") -> str:
        """Who answers a request that carries this key."""
        connection = http.client.HTTPConnection(self._addresses["web"], timeout=10)
        try:
            connection.request("GET", path, headers=affinity_headers(key) if key else {})
            answer = connection.getresponse()
            body = answer.read().decode()
            assert answer.status == 200, body
            return body
        finally:
            connection.close()

    def spread(self, requests: int = 40) -> Counter[str]:
        """How many of so many requests each backend answers."""
        return Counter(self.get() for _ in range(requests))

    def _is_ready(self) -> bool:
        assert self._process is not None
        log = self._directory / "log"
        assert self._process.poll() is None, log.read_text()
        connection = http.client.HTTPConnection(self._addresses["admin"], timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _config(self) -> str:
        settings = "\n".join(f'{name} = "{value}"' for name, value in self._settings.items())
        endpoints = ", ".join(f'{{ address = "{name}" }}' for name in self.backends)
        return f"""
[admin]
listen = "{self._addresses["admin"]}"

[control]
{settings}

[listeners.web]
listen = "{self._addresses["web"]}"
protocol = "http"
cluster = "{CLUSTER}"

[listeners.raw]
listen = "{self._addresses["raw"]}"
protocol = "tcp"
proxy_protocol = true
trusted_cidrs = ["127.0.0.0/8"]
cluster = "{CLUSTER}"

[clusters.{CLUSTER}.discovery]
source = "static"
endpoints = [{endpoints}]
"""
