"""What is published."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import outrigger
import outrigger.sync
import pytest

HERE = Path(__file__).parent.parent


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    subprocess.run([HERE / "generate", tmp_path], check=True)
    made = {file.name: file.read_text() for file in (tmp_path / "outrigger/_generated").iterdir()}
    committed = HERE / "src/outrigger/_generated"
    assert made == {file.name: file.read_text() for file in committed.glob("control*")}


def test_the_wheel_has_the_types_and_the_licenses(tmp_path: Path) -> None:
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-qq"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(tmp_path), str(HERE)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("outrigger_sdk-0.1.0-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {file.relative_to(HERE / "src") for file in (HERE / "src").rglob("*.py*")}
    assert {str(source) for source in sources if source.suffix != ".pyc"} <= names
    licenses = {f"outrigger_sdk-0.1.0.dist-info/licenses/LICENSE-{name}" for name in ("MIT", "APACHE")}
    assert {"outrigger/py.typed", *licenses} <= names


def test_the_version_is_that_of_the_workspace() -> None:
    workspace = (HERE / "../../Cargo.toml").read_text()
    package = (HERE / "pyproject.toml").read_text()
    version = re.search(r'^version = ".*"$', workspace, re.MULTILINE)
    assert version and version[0] in package.splitlines()


@pytest.mark.parametrize("name", ["Client", "Lease", "Balancer"])
def test_both_ways_have_the_same_surface(name: str) -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    # `pick_known` is what `pick` of the other asks first.
    assert public(getattr(outrigger, name)) - {"pick_known"} == public(getattr(outrigger.sync, name))


def test_the_examples_of_the_readme_are_python() -> None:
    examples = re.findall(r"^```python\n(.*?)^```", (HERE / "README.md").read_text(), re.M | re.S)
    assert examples
    for example in examples:
        ast.parse(example)
