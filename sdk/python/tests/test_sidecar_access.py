"""Who may call the sidecar, and over what."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from outrigger import Client, Denied, Tls, Unavailable
from sidecar import Backend, Sidecar

TOKEN = "0123456789abcdef0123456789abcdef"


async def test_a_unix_socket(tmp_path: Path, backends: list[Backend]) -> None:
    sidecar = Sidecar(tmp_path, backends, {"listen": f"unix:{tmp_path}/control.sock"})
    sidecar.start()
    try:
        async with Client(sidecar.control) as client:
            assert len(await client.clusters()) == 1
            async with client.lease("app") as lease:
                await lease.set_weight("api", sidecar.backends[0], 2)
    finally:
        sidecar.kill()


async def test_a_token(tmp_path: Path, backends: list[Backend]) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    sidecar = Sidecar(tmp_path, backends, {"token_file": str(file)})
    sidecar.start()
    try:
        async with Client(sidecar.control, token_file=file) as client:
            assert len(await client.clusters()) == 1
            async with client.lease("app"):
                await anext(client.watch("api"))
        for wrong in (None, "f" * 32, "wrong"):
            async with Client(sidecar.control, token=wrong) as client:
                with pytest.raises(Denied):
                    await client.clusters()
                with pytest.raises(Denied):
                    await anext(client.watch("api"))
                # A stream of requests may be refused at any moment of its beginning.
                for _ in range(50):
                    with pytest.raises(Denied):
                        async with client.lease("app"):
                            pass
    finally:
        sidecar.kill()


async def test_tls(tmp_path: Path, backends: list[Backend]) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=sidecar"
    names = ["-addext", "subjectAltName=DNS:sidecar.test,IP:127.0.0.1"]
    command = ["openssl", *make.split(), *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    files = {"cert_file": str(cert), "key_file": str(key)}
    sidecar = Sidecar(tmp_path, backends, files)
    sidecar.start()
    try:
        for tls in (Tls(ca_file=cert), Tls(ca_file=cert, server_name="sidecar.test")):
            async with Client(sidecar.control, tls=tls) as client:
                assert len(await client.clusters()) == 1
        for other in (None, Tls(), Tls(ca_file=cert, server_name="other.test")):
            async with Client(sidecar.control, tls=other) as client:
                with pytest.raises(Unavailable):
                    await client.clusters()
    finally:
        sidecar.kill()
