"""What the documents show, run as they show it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from sidecar import CLUSTER, Sidecar

HERE = Path(__file__).parent.parent
EXAMPLE = HERE / "../../examples/python/deploy.py"


def run(sidecar: Sidecar, *command: str | Path) -> str:
    environment = {**os.environ, "OUTRIGGER_CONTROL": sidecar.control}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_example_moves_traffic_and_leaves_the_session(sidecar: Sidecar) -> None:
    old, new = sidecar.backends
    lines = run(sidecar, EXAMPLE, CLUSTER, old, new, sidecar.url).splitlines()
    shares = {}
    for line in lines:
        if found := re.fullmatch(rf"(\d+) % at {new}: (\d+) of 100 requests, session at (.*)", line):
            shares[int(found[1])] = int(found[2])
            assert found[3] == old
    assert list(shares) == [10, 50, 100]
    assert shares[10] < shares[50] < shares[100] == 100
    assert lines[-1] == f"{old} has finished, session at {new}"
    # Nothing of it has outlived the process.
    assert set(sidecar.spread()) == {old, new}


def test_the_readme_works(sidecar: Sidecar, tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", (HERE / "README.md").read_text(), re.M | re.S)
    assert examples
    for example in examples:
        example = example.replace("http://127.0.0.1:8080/", sidecar.url)
        example = example.replace("10.0.0.1:80", sidecar.backends[0])
        file = tmp_path / "example.py"
        file.write_text(example)
        run(sidecar, file)
