"""A CA of the tests' own, servers that answer what a test says, and what a user has set."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from slm_energy.store.access import PATIENCE

USER, PASSWORD, TOKEN = "ada", "kept-Secret-4-us", "kept-Token-4-us"
INSECURE = {"MLFLOW_TRACKING_INSECURE_TLS": "true"}
SECRETS = (PASSWORD, TOKEN, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Files of a CA, and of a certificate for 127.0.0.1 that it signed."""

    ca: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA of our own")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an MLflow server")])
    usage = {
        each: False
        for each in (
            *("digital_signature", "content_commitment", "key_encipherment", "key_agreement"),
            *("data_encipherment", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        )
    }
    ca = (
        _begun(issuer, issuer, ca_key, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage | {"key_cert_sign": True}), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        _begun(name, issuer, key, ca_key)
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (folder / "server.key").write_bytes(key.private_bytes(pem, plain[1], plain[0]))
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    """A certificate with the key identifiers that Python 3.13 requires."""
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(own, critical=False)
        .add_extension(signer, critical=False)
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def answering(
    status: int, text: str, certificates: Certificates | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A server that says the same to everybody: its URI, and who asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as made:
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.certificate, certificates.key)
            made.socket = context.wrap_socket(made.socket, server_side=True)
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield f"http{'s' if certificates else ''}://127.0.0.1:{made.server_port}", asked
        made.shutdown()
        thread.join()


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt per request."""
    for name in PATIENCE:
        monkeypatch.setenv(name, "30" if "TIMEOUT" in name else "0")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    """What a user of the server has in the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificates.ca))
