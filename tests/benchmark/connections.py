"""New connections: each sends six bytes, is answered seven and is closed; 50 at a time.

Closed connections keep their ports for a while. Linux uses those of loopback again after a second,
which is 28,000 a second between two addresses; several addresses of backends keep a proxy's search
for a free one short, so that it does not count.
"""

from . import messages, peers
from .bed import each

PACKAGES = messages.PACKAGES
PEERS = peers.TCP
TITLE = "new connections, 50 at a time"
COLUMNS = {
    "CPU µs per connection (user + system)": "{cpu:.1f} ({user:.1f} + {system:.1f})",
    "connections/s": "{cps:,.0f}",
    "p50 µs": "{p50:,.0f}",
}
COMPARED = {"CPU per connection": "cpu", "connections/s": "cps", "p50 of connections": "p50"}

A_SECOND = 8_000


def start_backends(bed):
    return messages.start_backends(bed, [f"127.0.0.{n}" for n in range(1, 9)])


def measure(proxy, port, seconds):
    count = A_SECOND * seconds
    [pings], spent = messages.benchmark(proxy, port, count, "-k", 0, "-t", "ping_inline",
                                        seconds=seconds)
    return {**each(spent, count), "cps": float(pings["rps"]),
            "p50": float(pings["p50_latency_ms"]) * 1e3}
