"""Certificates for tests: an authority of the test's own, and what it issues."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import gevent.ssl
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["Authority", "Files", "Issued"]


class Issued:
    """A certificate and its key."""

    def __init__(self, certificate: trustme.LeafCert) -> None:
        self.certificate = certificate

    def write(self, directory: Path, name: str, password: str | None = None) -> Files:
        """Write both as PEM files, the key as PKCS #8, which Java reads too."""
        key = load_pem_private_key(self.certificate.private_key_pem.bytes(), None)
        encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        files = Files(directory / f"{name}.pem", directory / f"{name}-key.pem")
        files.cert.write_bytes(b"".join(blob.bytes() for blob in self.certificate.cert_chain_pems))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return files

    def server_context(self, kind: type = ssl.SSLContext) -> ssl.SSLContext:
        """For a server.

        :param kind: ``gevent.ssl.SSLContext`` for sockets that cooperate in a process that is not patched, too.
        """
        context = kind(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(context)
        return context


class Files:
    """A certificate and its key in files."""

    def __init__(self, cert: Path, key: Path) -> None:
        self.cert = cert
        self.key = key


class Authority:
    """Issues certificates."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    def issue(self, *names: str, expired: bool = False) -> Issued:
        """A certificate for these hosts, by default those of loopback."""
        dates = {}
        if expired:
            now = datetime.datetime.now(datetime.timezone.utc)
            dates = {"not_before": now - datetime.timedelta(days=9), "not_after": now - datetime.timedelta(days=1)}
        return Issued(self._authority.issue_cert(*(names or ("localhost", "127.0.0.1")), **dates))

    def demand(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Let a server ask for a client's certificate, of this authority."""
        context.verify_mode = ssl.CERT_REQUIRED
        self._authority.configure_trust(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts this authority only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        return context

    def write(self, directory: Path) -> str:
        """Write the authority's certificate; returns the file's path."""
        path = directory / "authority.pem"
        path.write_bytes(self._authority.cert_pem.bytes())
        return str(path)


def serve_gevent(issued: Issued) -> ssl.SSLContext:
    """The context of a test's own server, which is gevent's TLS and not ours."""
    return issued.server_context(gevent.ssl.SSLContext)
