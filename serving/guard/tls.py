"""TLS of both protocols from the same two files, which are read again when they change.

A certificate that is renewed is shown to whoever connects next; connections go on as they are.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from bonexray.errors import ConfigError
from serving.guard.watched import Watched


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    context: ssl.SSLContext
    configuration: grpc.ServerCertificateConfiguration


class Tls:
    """The server's certificate and key, as they are at the time."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read the files.

        Args:
            certificate: PEM, the server's first and its issuers' after it.
            key: PEM, of the first certificate, not encrypted.

        Raises:
            ConfigError: they cannot be read, or do not belong together.
        """
        self._pair = Watched(lambda: (_read_pair(certificate, key), [certificate, key]))

    def context(self) -> ssl.SSLContext:
        """For a server on `ssl`: each handshake is made with the pair as it is then."""
        context = _bare_context()

        def choose(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
            # Not load_cert_chain on the one context: it would keep a former pair of another kind
            # of key beside the new one, and be left with half of a broken one.
            connection.context = self._pair.current().context

        context.sni_callback = choose  # called with each ClientHello, a server name in it or not
        return context

    def credentials(self) -> grpc.ServerCredentials:
        """For a server on gRPC: the same."""
        shown = self._pair.current()

        def choose() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            before, shown = shown, self._pair.current()
            return None if shown is before else shown.configuration

        return grpc.dynamic_ssl_server_credentials(shown.configuration, choose)


def _bare_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _read_pair(certificate: Path, key: Path) -> _Pair:
    context = _bare_context()
    try:
        # A password is asked for on the terminal if none is given.
        context.load_cert_chain(certificate, key, password=b"")
        chain, secret = certificate.read_bytes(), key.read_bytes()
    except ssl.SSLError as error:
        raise ConfigError(
            f"{certificate}, {key}: expected a PEM certificate and its key, not encrypted"
        ) from error
    except OSError as error:
        raise ConfigError(f"{certificate}, {key}: one cannot be read: {error.strerror}") from error
    return _Pair(
        context=context,
        configuration=grpc.ssl_server_certificate_configuration([(secret, chain)]),
    )
