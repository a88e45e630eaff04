"""A certificate authority for one test, and a server's certificate for 127.0.0.1."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificates(NamedTuple):
    """Files: who signed it, the server's certificate, its key."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def made(cls, home: Path) -> Certificates:
        """New ones in a new directory."""
        home.mkdir()
        made = cls(home / "ca.pem", home / "server.pem", home / "key.pem")
        signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ca of {home.name}")])
        constraint = x509.BasicConstraints(ca=True, path_length=0)
        made.ca.write_bytes(_signed(ca, signer.public_key(), ca, signer, constraint))
        server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        made.certificate.write_bytes(_signed(server, key.public_key(), ca, signer, names))
        form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
        return made


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> bytes:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(extension, critical=False)
    )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
