"""Who may call the sidecar, and over what."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from outrigger import Client, Denied, Tls, Unavailable
from sidecar import Backend, Sidecar

TOKEN = "0123456789abcdef0123456789abcdef"


async def test_a_unix_socket(tmp_path: Path, backends: list[Backend]) -> None:
    with Sidecar(tmp_path, backends, {"listen": f"unix:{tmp_path}/control.sock"}) as sidecar:
        async with Client(sidecar.control) as client:
            assert len(await client.clusters()) == 1
            async with client.lease("app") as lease:
                await lease.set_weight("api", sidecar.backends[0], 2)


async def test_a_token(tmp_path: Path, backends: list[Backend]) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    with Sidecar(tmp_path, backends, {"token_file": str(file)}) as sidecar:
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


def openssl(command: str, directory: Path) -> None:
    subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A directory with an authority (`ca.pem`), and what it has signed for the sidecar and the app."""
    new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    openssl(f"{new} -x509 -days 1 -subj /CN=authority -keyout ca.key -out ca.pem", tmp_path)
    (tmp_path / "names").write_text("subjectAltName = DNS:sidecar.test, IP:127.0.0.1\n")
    for name in ("sidecar", "app"):
        openssl(f"{new} -subj /CN={name} -keyout {name}.key -out {name}.csr", tmp_path)
        sign = "x509 -req -days 1 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names"
        openssl(f"{sign} -in {name}.csr -out {name}.pem", tmp_path)
        (tmp_path / f"{name}.key").chmod(0o600)
    return tmp_path


def files(certificates: Path) -> dict[str, str]:
    """What the sidecar is configured with."""
    return {
        "cert_file": str(certificates / "sidecar.pem"),
        "key_file": str(certificates / "sidecar.key"),
    }


async def test_tls(certificates: Path, backends: list[Backend]) -> None:
    ca = certificates / "ca.pem"
    with Sidecar(certificates, backends, files(certificates)) as sidecar:
        for tls in (Tls(ca_file=ca), Tls(ca_file=ca, server_name="sidecar.test")):
            async with Client(sidecar.control, tls=tls) as client:
                assert len(await client.clusters()) == 1
        for other in (None, Tls(), Tls(ca_file=ca, server_name="other.test")):
            async with Client(sidecar.control, tls=other) as client:
                with pytest.raises(Unavailable):
                    await client.clusters()


async def test_client_certificates(certificates: Path, backends: list[Backend]) -> None:
    ca = certificates / "ca.pem"
    settings = {**files(certificates), "client_ca_file": str(ca)}
    with Sidecar(certificates, backends, settings) as sidecar:
        own = Tls(ca, certificates / "app.pem", certificates / "app.key")
        async with Client(sidecar.control, tls=own) as client, client.lease("app") as lease:
            await lease.set_weight("api", sidecar.backends[0], 2)
        async with Client(sidecar.control, tls=Tls(ca)) as client:
            with pytest.raises(Unavailable):
                await client.clusters()
