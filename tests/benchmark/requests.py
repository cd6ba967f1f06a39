"""Many small requests: wrk in front, nginx behind."""

import re
import subprocess
import sys

from .bed import LOAD_CORE, cpu, free_port, rss


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
    return ports


UNITS = {"us": 1, "ms": 1e3, "s": 1e6}


def load(process, port, connections, seconds):
    before = cpu(process.pid)
    out = subprocess.run(
        ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
         f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout
    after = cpu(process.pid)
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"requests failed on port {port}:\n{out}")
    requests = int(re.search(r"(\d+) requests in", out)[1])

    def quantile(percent):
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", out).groups()
        return float(value) * UNITS[unit]

    return {
        "user": (after[0] - before[0]) / requests * 1e6,
        "system": (after[1] - before[1]) / requests * 1e6,
        "cpu": (sum(after) - sum(before)) / requests * 1e6,
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p50": quantile(50),
        "p99": quantile(99),
        "rss": rss(process.pid),
    }
