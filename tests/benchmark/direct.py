"""The same small requests of one app through the sidecar and past it: hyper in front, nginx behind.

What an app pays for the hop is its own CPU and the sidecar's, so both count.
"""

import dataclasses
import functools
import json
import resource
import subprocess

from . import peers, requests
from .bed import ROOT, each, free_port, load

PACKAGES = {}
TITLE = "small requests of one app"
COLUMNS = {
    "CPU µs per request (app + sidecar)": "{cpu:.1f} ({app:.1f} + {sidecar:.1f})",
    "requests/s": "{rps:,.0f}",
    "p50, p99 µs at 64": "{p50:,.0f}, {p99:,.0f}",
    "p50, p99 µs at 1": "{p50_at_1:.0f}, {p99_at_1:.0f}",
}
COMPARED = {"CPU per request": "cpu", "p50 at 64": "p50", "p50 at one connection": "p50_at_1"}

start_backends = requests.start_backends


@dataclasses.dataclass
class Way:
    """A sidecar, and how the app gets to the backends behind it."""
    pid: int
    app: list


def start(way, bed, port, backends, binary=None):
    control = f"127.0.0.1:{free_port()}"
    sidecar = peers.start_outrigger(bed, port, backends, binary=binary, control=control)
    to = ["proxied", f"127.0.0.1:{port}"] if way == "proxied" else ["direct", control, "b"]
    return Way(sidecar.pid, [app(), *to])


PEERS = {"outrigger": functools.partial(start, "proxied"),
         "direct": functools.partial(start, "direct")}


@functools.cache
def app():
    """The path of the app."""
    built = subprocess.run(["cargo", "bench", "-q", "-p", "outrigger-sdk", "--bench", "direct", "--no-run",
                            "--message-format", "json"], cwd=ROOT, check=True, capture_output=True, text=True)
    messages = map(json.loads, built.stdout.splitlines())
    return next(message["executable"] for message in messages if message.get("executable"))


def measure(way, port, seconds):
    many, one = run(way, 64, seconds), run(way, 1, max(1, seconds // 2))
    return {**many, "p50_at_1": one["p50"], "p99_at_1": one["p99"]}


def run(way, connections, seconds):
    binary, *rest = way.app
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out, spent = load(way, binary, connections, seconds, *rest, seconds=seconds)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    count, p50, p99 = map(int, out.split())
    by_app = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    app_cpu, sidecar_cpu = each(by_app, count)["cpu"], each(spent, count)["cpu"]
    return {"app": app_cpu, "sidecar": sidecar_cpu, "cpu": app_cpu + sidecar_cpu,
            "rps": count / seconds, "p50": p50, "p99": p99}
