"""What is published."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import outrigger
import outrigger.sync
import pytest

HERE = Path(__file__).parent.parent
LICENSES = ("LICENSE-MIT", "LICENSE-APACHE")


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    subprocess.run([HERE / "generate", tmp_path], check=True)
    made = {file.name: file.read_text() for file in (tmp_path / "outrigger/_generated").iterdir()}
    committed = HERE / "src/outrigger/_generated"
    assert made == {file.name: file.read_text() for file in committed.glob("control*")}


def test_the_package_has_the_code_the_types_and_the_licenses(tmp_path: Path) -> None:
    # As it is published: the source, and a wheel that is made of nothing else.
    python = [sys.executable, "-m"]
    subprocess.run([*python, "hatchling", "build", "-t", "sdist", "-d", tmp_path], cwd=HERE, check=True)
    (sdist,) = tmp_path.glob("outrigger_sdk-0.1.0.tar.gz")
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-qq"]
    subprocess.run([*python, "pip", "wheel", *options, "-w", tmp_path, sdist], check=True)
    (wheel,) = tmp_path.glob("outrigger_sdk-0.1.0-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(file.relative_to(HERE / "src")) for file in (HERE / "src").rglob("*.py*")}
    assert {source for source in sources if not source.endswith(".pyc")} <= names
    licenses = {f"outrigger_sdk-0.1.0.dist-info/licenses/{name}" for name in LICENSES}
    assert {"outrigger/py.typed", *licenses} <= names


def test_the_licenses_are_those_of_the_project() -> None:
    for name in LICENSES:
        assert (HERE / name).read_bytes() == (HERE / "../.." / name).read_bytes()


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
