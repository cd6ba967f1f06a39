"""One connection that moves as much as it can, up and then down: iperf3 on both sides."""

import json

from . import peers
from .bed import LOAD_CORE, free_port, load

PACKAGES = {"iperf3": "iperf3"}
PEERS = peers.TCP
TITLE = "bulk, one connection"
COLUMNS = {
    "up: CPU s per GB": "{up:.2f}",
    "up: GB/s": "{up_rate:.2f}",
    "down: CPU s per GB": "{down:.2f}",
    "down: GB/s": "{down_rate:.2f}",
}
COMPARED = {"CPU per GB up": "up", "GB/s up": "up_rate",
            "CPU per GB down": "down", "GB/s down": "down_rate"}


def start_backends(bed):
    port = free_port()
    bed.start(LOAD_CORE, port, "iperf3", "--server", "--port", port)
    return [f"127.0.0.1:{port}"]


def measure(proxy, port, seconds):
    """Half of the time each way."""
    half = max(1, seconds // 2)
    up, up_rate = transfer(proxy, port, half)
    down, down_rate = transfer(proxy, port, half, "--reverse")
    return {"up": up, "up_rate": up_rate, "down": down, "down_rate": down_rate}


def transfer(proxy, port, seconds, *direction):
    """CPU seconds of the proxy per GB, and GB per second."""
    out, spent = load(proxy, "iperf3", "--client", "127.0.0.1", "--port", port, "--time", seconds,
                      "--json", *direction, seconds=seconds)
    received = json.loads(out)["end"]["sum_received"]
    gigabytes = received["bytes"] / 1e9
    return sum(spent) / gigabytes, gigabytes / received["seconds"]
