"""Many small requests: wrk in front, nginx behind."""

import re
import sys

from . import peers
from .bed import LOAD_CORE, each, free_port, load, rss

PACKAGES = {"wrk": "wrk"}
PEERS = peers.HTTP
TITLE = "small requests"
COLUMNS = {
    "CPU µs per request (user + system)": "{cpu:.1f} ({user:.1f} + {system:.1f})",
    "requests/s": "{rps:,.0f}",
    "p50, p99 µs at 64": "{p50:,.0f}, {p99:,.0f}",
    "p50, p99 µs at 1": "{p50_at_1:.0f}, {p99_at_1:.0f}",
    "RSS MiB": "{rss:.1f}",
}
COMPARED = {"CPU per request": "cpu", "p50 at one connection": "p50_at_1"}


def start_backends(bed):
    ports = [free_port() for _ in range(3)]
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{'x' * 63}\n'; }} }}\n"
        for port in ports)
    config = bed.file("backends.conf", f"""
        worker_processes 1; daemon off; pid {bed.dir}/backends.pid; error_log {bed.dir}/backends.err;
        events {{ worker_connections 8192; }}
        http {{ access_log off; keepalive_requests 100000000; {servers} }}""")
    bed.start(LOAD_CORE, ports[-1], "nginx", "-p", bed.dir, "-c", config)
    return [f"127.0.0.1:{port}" for port in ports]


def measure(proxy, port, seconds):
    many, one = wrk(proxy, port, 64, seconds), wrk(proxy, port, 1, max(1, seconds // 2))
    return {**many, "p50_at_1": one["p50"], "p99_at_1": one["p99"]}


UNITS = {"us": 1, "ms": 1e3, "s": 1e6}


def wrk(proxy, port, connections, seconds):
    out, spent = load(proxy, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
                      f"http://127.0.0.1:{port}/", seconds=seconds)
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"requests failed on port {port}:\n{out}")

    def quantile(percent):
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", out).groups()
        return float(value) * UNITS[unit]

    return {
        **each(spent, int(re.search(r"(\d+) requests in", out)[1])),
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p50": quantile(50),
        "p99": quantile(99),
        "rss": rss(proxy.pid),
    }
