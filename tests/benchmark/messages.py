"""Small messages to and fro over 50 connections that stay: redis-benchmark in front, Redis behind."""

import csv
import statistics

from . import peers
from .bed import LOAD_CORE, each, free_port, load

PACKAGES = {"redis-server": "redis-server", "redis-benchmark": "redis-tools"}
PEERS = peers.TCP
TITLE = "SET and GET over 50 connections"
COLUMNS = {
    "CPU µs per request (user + system)": "{cpu:.1f} ({user:.1f} + {system:.1f})",
    "requests/s": "{rps:,.0f}",
    "p50 µs": "{p50:,.0f}",
}
COMPARED = {"CPU per request": "cpu", "requests/s": "rps", "p50 of requests": "p50"}

# redis-benchmark counts requests, not seconds: of each kind, about as many as one core of load makes.
A_SECOND = 20_000


def start_backends(bed, addresses=("127.0.0.1",)):
    port = free_port()
    bed.start(LOAD_CORE, port, "redis-server", "--port", port, "--bind", *addresses, "--save", "",
              "--dir", bed.dir)
    return [f"{address}:{port}" for address in addresses]


def measure(proxy, port, seconds):
    count = A_SECOND * seconds
    kinds, spent = benchmark(proxy, port, count, "-t", "set,get", seconds=seconds)
    return {
        **each(spent, count * len(kinds)),
        "rps": statistics.harmonic_mean(float(kind["rps"]) for kind in kinds),
        "p50": statistics.mean(float(kind["p50_latency_ms"]) * 1e3 for kind in kinds),
    }


def benchmark(proxy, port, count, *options, seconds):
    """A row of figures for each kind of request, and the CPU seconds that all took."""
    out, spent = load(proxy, "redis-benchmark", "-p", port, "-c", 50, "-n", count, "--csv", *options,
                      seconds=seconds)
    return list(csv.DictReader(out.splitlines())), spent
