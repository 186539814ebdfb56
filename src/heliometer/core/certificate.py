"""How long a certificate is valid, by a handshake in memory with the standard library."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

from heliometer.core.finding import FAIL, OK, WARN, Finding

SOON_DAYS = 14


class CertificateProblem(Exception):
    """The certificate or key cannot be used. The message says why."""


def expiry(certificate: str, key: str) -> datetime:
    """When the certificate ends. Raises CertificateProblem when either file is unusable."""
    for path in (certificate, key):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise CertificateProblem(f"cannot read {path}: {error.strerror}") from error
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate itself is what is trusted here; who signed it is for its clients to judge.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        # A key that asks for a pass phrase cannot serve; without one it would ask here.
        server.load_cert_chain(certificate, key, password=lambda: "")
        client.load_verify_locations(certificate)
        seen = _handshake(server, client)
    except ssl.SSLCertVerificationError as error:
        raise CertificateProblem(f"{certificate}: {error.verify_message}") from error
    except ssl.SSLError as error:
        reason = "key and certificate do not match" if "MISMATCH" in str(error) else str(error)
        raise CertificateProblem(f"{certificate} with {key}: {reason}") from error
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(seen["notAfter"])), UTC)


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object]:
    """What the client sees of the server's certificate."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(10):
        waiting = False
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting = True
        if not waiting:
            break
    return dict(ends[0].getpeercert() or {})


def validity(check: str, section: str, certificate: str, key: str) -> Finding:
    """Whether certificate and key, of that section's settings, can be used, and for how long."""
    try:
        ends = expiry(certificate, key)
    except CertificateProblem as error:
        return Finding(
            check, FAIL, str(error), f"renew it, or set {section}.tls_cert and {section}.tls_key"
        )
    days = (ends - datetime.now(UTC)).days
    summary = f"{certificate} fits its key and is valid until {ends:%Y-%m-%d}"
    if days < SOON_DAYS:
        return Finding(check, WARN, f"{summary}, {days} days", "renew it")
    return Finding(check, OK, summary)
