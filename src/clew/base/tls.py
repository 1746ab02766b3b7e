"""TLS by files in PEM: what a server shows, read anew when it changes, and whom a client trusts.

Knows the files and Python's ``ssl``; not who listens or asks.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

from clew.base.errors import Invalid, Unavailable

REFRESH_S = 1.0
"""How often a server looks whether its certificate has changed."""
_NOT_YET, _EXPIRED = 9, 10
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_log = logging.getLogger("clew.tls")


class ServerTls:
    """What listening sockets are wrapped in. ``protocols``: what is agreed on by ALPN.

    Raises:
        Invalid: ``tls.incomplete``, ``tls.unreadable``, ``tls.mismatch``, ``tls.expired``.
    """

    def __init__(
        self, certificate: str, key: str, protocols: Sequence[str] = ("http/1.1",)
    ) -> None:
        if not certificate or not key:
            raise Invalid(
                "tls.incomplete",
                "TLS needs a certificate and its key.",
                hint="Give both: --tls-certificate FILE --tls-key FILE",
            )
        self._files = Path(certificate), Path(key)
        self._seen = self._look()
        self.context = _checked(*self._files)
        self.context.set_alpn_protocols(list(protocols))

    def refresh(self) -> None:
        """Read the files anew where they have changed; connections that are open stay.

        Files that cannot be used are told in the log, and what was read before is shown on: a
        certificate and its key are seldom replaced in the same moment.
        """
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            _checked(*self._files)
            self.context.load_cert_chain(*self._files, password=_no_password)
        except (Invalid, OSError) as error:
            _log.warning("the certificate is not replaced: %s", error)
        else:
            _log.warning("%s was read anew", self._files[0])

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        found: list[tuple[int, int, int] | None] = []
        for file in self._files:
            try:
                told = file.stat()
            except OSError:
                found.append(None)
            else:
                found.append((told.st_mtime_ns, told.st_size, told.st_ino))
        return tuple(found)


def trusting(file: str) -> ssl.SSLContext:
    """What a client checks a server by: the authorities of the system, and those in a file.

    Raises Invalid ``tls.unreadable``.
    """
    context = ssl.create_default_context()
    _open(Path(file))
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise _unreadable(Path(file), _reason(error)) from None
    return context


def untrusted(url: str, why: str) -> Unavailable:
    """The error of a client that does not take a server's certificate."""
    return Unavailable(
        "server.untrusted",
        f"The certificate of {url} is not trusted ({why}).",
        hint="Set CLEW_CA to the file with the authority that signed it; ask by the name in it.",
    )


def _checked(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for file in (certificate, key):
        _open(file)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Invalid(
                "tls.mismatch",
                f"The key in {key} is not that of the certificate in {certificate}.",
                hint="Give the key that the certificate was made for.",
            ) from None
        raise _unreadable(f"{certificate} or {key}", _reason(error)) from None
    _check_dates(context, certificate)
    return context


def _open(file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from None


def _unreadable(what: Path | str, why: str) -> Invalid:
    return Invalid(
        "tls.unreadable",
        f"{what} cannot be used: {why}.",
        hint="Give files in PEM form; a key without a password, which this user may read.",
    )


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "it holds nothing in PEM form").lower().replace("_", " ")


def _no_password() -> str:
    return ""  # else OpenSSL would ask on the terminal


def _check_dates(context: ssl.SSLContext, certificate: Path) -> None:
    """Shake hands with it, as a client that trusts this certificate and no other."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = client.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True)
    try:
        for _ in range(4):
            for side in sides:
                _step(side)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in {_NOT_YET, _EXPIRED}:
            when = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
            raise Invalid(
                "tls.expired",
                f"The certificate in {certificate} {when}: no client would take it.",
                hint="Renew it, or look at the clock of this machine.",
            ) from None
    except ssl.SSLError:  # what else clients think of it is theirs
        return


def _step(side: ssl.SSLObject) -> None:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return
