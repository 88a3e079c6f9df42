"""HTTPS: certificates renewed under a running shim, and what is refused; over real sockets."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nsedge.errors import ConfigInvalid
from nsedge.web.tls import server_context
from tests.fakes import FakeClock
from tests.web_server import Connection, Shim, served

BORN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def write_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for localhost whose subject is `name`, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BORN)
        .not_valid_after(BORN + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    key_path.chmod(0o600)
    return cert_path, key_path


def any_server() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def subject_of(shim: Shim) -> str:
    """Whom the shim says it is, after an answered request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", shim.port, ssl=any_server())
    connection = Connection(reader, writer)
    connection.say("GET", "/live")
    assert (await connection.answer()).status == 200
    raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    (name,) = x509.load_der_x509_certificate(raw).subject.get_attributes_for_oid(
        NameOID.COMMON_NAME
    )
    return str(name.value)


def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(tmp_path: Path) -> None:
    clock = FakeClock()
    context = server_context(*write_pair(tmp_path, "first"), clock=clock)

    async def test(shim: Shim) -> None:
        assert await subject_of(shim) == "first"
        write_pair(tmp_path, "second")
        assert await subject_of(shim) == "first"
        clock.advance(1.0)
        assert await subject_of(shim) == "second"
        (tmp_path / "key.pem").write_text("no key", encoding="utf-8")
        clock.advance(1.0)
        assert await subject_of(shim) == "second"
        write_pair(tmp_path, "third")
        clock.advance(1.0)
        assert await subject_of(shim) == "third"

    served(test, tls=context)


def test_clear_text_and_old_versions_get_nothing(tmp_path: Path) -> None:
    async def test(shim: Shim) -> None:
        plain = await Connection.open(shim.port)
        plain.say("GET", "/live")
        with pytest.raises(asyncio.IncompleteReadError):
            await plain.head()
        await plain.close()

    context = server_context(*write_pair(tmp_path, "me"))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    served(test, tls=context)


def test_files_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, "one")
    (tmp_path / "two").mkdir()
    _, other = write_pair(tmp_path / "two", "two")
    with pytest.raises(ConfigInvalid, match="no certificate with its key"):
        server_context(cert, other)
    with pytest.raises(ConfigInvalid, match="No such file"):
        server_context(cert, tmp_path / "none")
    key.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="may be read by others"):
        server_context(cert, key)


def test_an_encrypted_key_is_told_rather_than_asked_for(tmp_path: Path) -> None:
    cert, path = write_pair(tmp_path, "one")
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigInvalid, match="encrypted"):
        server_context(cert, path)
