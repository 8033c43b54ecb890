"""Where the server is, who asks, and whom the caller trusts."""

import datetime
import ipaddress
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.pipeline.cluster_desk import Drive
from tests.pipeline.kfp_server import KfpServer

pytest_plugins = ["tests.pipeline.cluster_desk"]


@pytest.mark.parametrize("endpoint", ["", "ml-pipeline:8888"])
def test_without_an_address_nothing_is_tried(
    refused: Drive, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    refused("submit", "--set", "x")  # the fixtures' own environment first
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", endpoint)
    assert f"KF_PIPELINES_ENDPOINT = {endpoint!r}: names no Kubeflow Pipelines" in refused("status")


def test_an_endpoint_that_nobody_listens_at_is_named(
    refused: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9: cannot be reached" in refused("status")


def test_an_expired_token_is_told_and_not_shown(
    refused: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "a-fresh-token"
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "a-stale-token")
    said = refused("submit")
    assert "it does not know you: the token (KF_PIPELINES_TOKEN" in said
    assert "a-stale-token" not in said


def test_a_token_may_lie_in_a_file(
    drive: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.token = "a-token-of-a-file"
    (tmp_path / "token").write_text(server.token)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    drive("submit", "--no-wait")
    assert len(server.runs) == 1


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff"])
def test_a_file_that_holds_no_token_is_told(
    refused: Drive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert "KF_PIPELINES_SA_TOKEN_PATH: " in refused("status")


def test_a_password_in_the_address_is_not_printed(
    refused: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "https://user:hunter2@kubeflow.example.org")
    assert "hunter2" not in refused("status")


def test_a_token_is_asked_for_and_its_ends_are_trimmed(
    drive: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "a-token"
    monkeypatch.setenv("KF_PIPELINES_TOKEN", " a-token\n")
    assert "no runs yet" in drive("status")


def test_a_token_file_is_read_before_each_call(
    drive: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"

    def renew(*_: object) -> None:
        server.token = f"token-{len(server.asked)}"
        file.write_text(server.token)

    renew()
    monkeypatch.setattr(time, "sleep", renew)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    server.played = [{"state": "RUNNING"}, {"state": "RUNNING"}, {"state": "SUCCEEDED"}]
    assert "succeeded" in drive("submit").splitlines()[-1]


def test_nobody_is_asked_to_sign_in_by_a_browser(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_IAP_OAUTH2_CLIENT_ID", "an-id")
    assert "no runs yet" in drive("status")


def test_a_server_is_trusted_by_its_authority_alone(
    drive: Drive,
    refused: Drive,
    server: KfpServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url.replace("http:", "https:"))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert "cannot be trusted or reached" in refused("status")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert "no runs yet" in drive("status")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    assert "SSL_CERT_FILE may name" in refused("status")


def _certificate(folder: Path) -> Path:
    """Of 127.0.0.1, by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    unlocked = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, unlocked)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
