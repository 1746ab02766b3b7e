"""Certificates for tests of TLS: an authority, and servers of this machine that it signs for.

Knows no server.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Signer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]
_DAY = datetime.timedelta(days=1)


def make_certificate(
    place: Path, name: str, *, signer: Signer | None = None, days: tuple[int, int] = (-1, 30)
) -> Signer:
    """A certificate for ``localhost`` and 127.0.0.1 with its key, kept as ``name.pem`` and
    ``name.key``.

    ``signer``: who signs it; without one it is an authority. ``days``: from when to when it holds,
    from today.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer, signing = (signer[0].subject, signer[1]) if signer else (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * _DAY)
        .not_valid_after(now + days[1] * _DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .sign(signing, hashes.SHA256())
    )
    (place / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (place / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, key
