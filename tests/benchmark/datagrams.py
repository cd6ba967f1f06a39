"""Questions of 64 bytes and answers of 80 at a fixed rate from 64 sockets: dnsperf in front, Knot behind."""

import re

from . import peers
from .bed import LOAD_CORE, WORK, each, free_port, load

PACKAGES = {"dnsperf": "dnsperf", "knotd": "knot"}
PEERS = peers.UDP
TITLE = "datagrams, 10,000 pairs a second over 64 sessions"
COLUMNS = {
    "CPU µs per pair (user + system)": "{cpu:.1f} ({user:.1f} + {system:.1f})",
    "lost %": "{lost:.2f}",
    "mean µs": "{mean:,.0f}",
}
COMPARED = {"CPU per pair of datagrams": "cpu"}

# Well below what any of them can do: the same work for all, and what is lost is lost by the proxy.
A_SECOND = 10_000
# With its 12 bytes of head and 4 of type and class a question for it has 64.
NAME = "a" * 40 + ".bench"
QUESTIONS = WORK / "questions"


def start_backends(bed):
    port = free_port()
    zone = bed.file("bench.zone", "@ 3600 SOA ns.bench. admin.bench. 1 3600 600 86400 60\n@ 3600 NS ns\n"
                    "ns 3600 A 127.0.0.1\n" f"{NAME}. 3600 A 127.0.0.1\n")
    config = bed.file("knot.conf", f"""
server:
    rundir: "{bed.dir}"
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{bed.dir}"
zone:
  - domain: bench
    file: "{zone}"
""")
    QUESTIONS.write_text(f"{NAME} A\n")
    bed.start(LOAD_CORE, port, "knotd", "-c", config)
    return [f"127.0.0.1:{port}"]


def measure(proxy, port, seconds):
    out, spent = load(proxy, "dnsperf", "-s", "127.0.0.1", "-p", port, "-d", QUESTIONS, "-c", 64, "-T", 1,
                      "-Q", A_SECOND, "-l", seconds, "-t", 1, seconds=seconds)

    def figure(label):
        return float(re.search(rf"{label}:\s+([\d.]+)", out)[1])

    return {**each(spent, figure("Queries completed")),
            "lost": 100 * figure("Queries lost") / figure("Queries sent"),
            "mean": figure(r"Average Latency \(s\)") * 1e6}
