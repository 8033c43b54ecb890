"""Bearer tokens (RFC 6750): who asks, and whether they may. Health checks need none.

python -m serving.guard.tokens new --client NAME --scope infer [--scope read] [--days N] [--file F]
"""

import argparse
import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
from pydantic import ValidationError

from bonexray.artifacts import whole_file
from bonexray.command import run_or_exit
from bonexray.errors import ConfigError
from serving.guard.clients import ANONYMOUS, Client, Clients, Scope, read_clients
from serving.guard.jwts import Bearer, RefusedTokenError, Verifier
from serving.guard.watched import Watched
from serving.oip.errors import ForbiddenError, UnauthorisedError

MAX_CREDENTIAL = 8192
"""Characters of the header: a token of any issuer is shorter."""
_MAX_DAYS = 3650
_CREDENTIAL = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")


class BadTokenError(UnauthorisedError):
    """A credential that was given and is not accepted."""

    def headers(self) -> dict[str, str]:
        """RFC 6750, section 3.1."""
        return {"WWW-Authenticate": 'Bearer realm="bonexray", error="invalid_token"'}


class ScopeError(ForbiddenError):
    """A client that is known and may not do this."""

    def __init__(self, scope: Scope) -> None:
        """Say what the client would need."""
        super().__init__(f"authorization: the token is not for this, expected the scope {scope}")
        self._scope = scope

    def headers(self) -> dict[str, str]:
        """RFC 6750, section 3.1."""
        how = f'error="insufficient_scope", scope="{self._scope}"'
        return {"WWW-Authenticate": f'Bearer realm="bonexray", {how}'}


@dataclass(frozen=True, kw_only=True)
class _Book:
    """The file of clients, with what its issuers are verified by."""

    clients: tuple[Client, ...]
    verifiers: dict[str, Verifier]


class Doorkeeper:
    """Knows the clients that a file lists, as it is at the time."""

    def __init__(self, path: Path | None) -> None:
        """Read the file of clients; it is read again when it, or a file of keys, changes.

        Args:
            path: the file; None lets everybody do everything.

        Raises:
            ConfigError: it cannot be used.
        """
        self._book = None if path is None else Watched(lambda: _read_book(path))

    def admit(self, authorization: str | None, scope: Scope) -> str:
        """Find out who asks.

        Args:
            authorization: the header's value; None when there is none, or more than one.
            scope: what they want to do.

        Returns:
            The client's name; of an issuer's client the issuer's name, `/` and the subject.

        Raises:
            UnauthorisedError: there is no credential, or it is not accepted.
            ForbiddenError: the client may not do this.
        """
        if self._book is None:
            return ANONYMOUS
        if authorization is None:
            raise UnauthorisedError("authorization: expected a header of the form Bearer TOKEN")
        bearer = _identify(_token(authorization), self._book.current())
        if scope not in bearer.scopes:
            raise ScopeError(scope)
        return bearer.client


def digest_of(token: str) -> str:
    """What stands in the file for a token: 64 hexadecimal digits.

    A token is 256 random bits, so that, unlike with a password, nothing slower is needed.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def new_token(name: str, scopes: Sequence[Scope], days: int | None) -> tuple[str, Client]:
    """Make a token and the entry that lets it in.

    Args:
        name: of the client.
        scopes: what it may do.
        days: for how long; None for good.

    Raises:
        ConfigError: that is no name, or no number of days.
    """
    if days is not None and not 1 <= days <= _MAX_DAYS:
        raise ConfigError(f"--days: {days}, expected 1 to {_MAX_DAYS}")
    token = f"bonexray_{secrets.token_urlsafe(32)}"
    expires = None if days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days)
    try:
        entry = Client(
            name=name, sha256=digest_of(token), scopes=frozenset(scopes), expires=expires
        )
    except ValidationError as error:
        raise ConfigError(f"--client: {error.errors()[0]['msg']}") from error
    return token, entry


def add_client(path: Path, entry: Client) -> None:
    """Append an entry to the file of clients, which is made if there is none.

    Raises:
        ConfigError: the file cannot be used.
        OSError: its folder is not there, or nothing can be written to it.
    """
    with _folder_to_oneself(path.parent), whole_file(path) as partial:
        before = read_clients(path) if path.exists() else Clients()
        after = before.model_copy(update={"clients": (*before.clients, entry)})
        partial.write_text(after.model_dump_json(indent=2, exclude_none=True) + "\n")
        if path.exists():
            partial.chmod(path.stat().st_mode)


@contextmanager
def _folder_to_oneself(folder: Path) -> Iterator[None]:
    """Wait for whoever else appends to a file in it, or one of two entries would be lost."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def main(argv: list[str] | None = None) -> None:
    """Parse the flags and make a token."""
    parser = argparse.ArgumentParser(prog="python -m serving.guard.tokens", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    new = commands.add_parser("new", help="make a token; it is shown once and kept nowhere")
    new.add_argument("--client", required=True, help="name under which it is counted and logged")
    new.add_argument(
        "--scope",
        required=True,
        action="append",
        type=Scope,
        choices=list(Scope),
        help="may repeat",
    )
    new.add_argument("--days", type=int, help="for how long; without it for good")
    new.add_argument("--file", type=Path, help="append the entry to this file of clients")
    args = parser.parse_args(argv)
    run_or_exit("serving.guard.tokens", lambda: _show_new(args))


def _show_new(args: argparse.Namespace) -> None:
    token, entry = new_token(args.client, args.scope, args.days)
    if args.file is None:
        print(token)
        print(entry.model_dump_json(exclude_none=True))
    else:
        add_client(args.file, entry)  # first, or a token would be shown that lets nobody in
        print(token)


def _read_book(path: Path) -> tuple[_Book, list[Path]]:
    read = read_clients(path)
    verifiers = {issuer.issuer: Verifier(issuer, path.parent) for issuer in read.issuers}
    files = [path, *(verifier.file for verifier in verifiers.values())]
    return _Book(clients=read.clients, verifiers=verifiers), files


def _token(authorization: str) -> str:
    found = None
    if len(authorization) <= MAX_CREDENTIAL:
        found = _CREDENTIAL.fullmatch(authorization)
    if found is None:
        raise BadTokenError(
            f"authorization: expected Bearer TOKEN, of {MAX_CREDENTIAL} characters at most"
        )
    return found[1]


def _identify(token: str, book: _Book) -> Bearer:
    digest, known = digest_of(token), None
    for client in book.clients:
        # All are compared, and each whole: the time it takes tells nothing.
        if hmac.compare_digest(digest, client.sha256):
            known = client
    if known is None:
        try:
            return _verify(token, book)
        except RefusedTokenError as error:
            raise BadTokenError(f"authorization: the token {error}") from None
    if known.expires is not None and known.expires <= datetime.now(UTC):
        raise BadTokenError("authorization: the token has expired")
    return Bearer(client=known.name, scopes=known.scopes)


def _verify(token: str, book: _Book) -> Bearer:
    """Ask the issuer that a token names; what it says is not believed before it is verified."""
    try:
        unverified = jwt.decode_complete(token, options={"verify_signature": False})
        verifier = book.verifiers[unverified["payload"]["iss"]]
    except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
        raise RefusedTokenError("is not known here") from error
    return verifier.verify(token, unverified["header"].get("kid"))


if __name__ == "__main__":
    main()
