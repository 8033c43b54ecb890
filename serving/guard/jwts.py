"""JSON Web Tokens of one issuer, verified with keys from a file: nothing is asked over the network.

RFC 7519, and RFC 8725 for what is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bonexray.errors import ConfigError
from serving.guard.clients import Issuer, Scope
from serving.watch.fields import clean

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
_LEEWAY_S = 10
"""Between the issuer's clock and this one."""
_MIN_RSA_BITS = 2048
_CLAIMS = ["exp", "iss", "aud", "sub"]
_WAYS_OF_REFUSING = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    jwt.PyJWTError,
)
"""What reading a set of keys may raise."""
_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "has expired",
    jwt.ImmatureSignatureError: "is not valid yet",
    jwt.InvalidAudienceError: "is for another audience",
    jwt.MissingRequiredClaimError: "lacks one of the claims " + ", ".join(_CLAIMS),
}
"""What is told of a token whose signature is right; of all others, only that they are unknown."""


class RefusedTokenError(Exception):
    """A token that is not accepted. The message says why, and repeats nothing of the token."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A public key, and the one algorithm that it is for; None when the issuer's list says it."""

    public: PublicKey
    algorithm: str | None


@dataclass(frozen=True, kw_only=True)
class Bearer:
    """Whom a token speaks for."""

    client: str
    scopes: frozenset[Scope]


class Verifier:
    """Verifies the tokens of one issuer."""

    def __init__(self, issuer: Issuer, folder: Path) -> None:
        """Read the issuer's keys.

        Args:
            issuer: whose tokens are accepted.
            folder: where the path of its keys begins.

        Raises:
            ConfigError: the file of keys holds none, or one that is not for verifying.
        """
        self.issuer = issuer
        self.file = folder / issuer.keys
        self._keys = read_keys(self.file)

    def verify(self, token: str, key_id: object) -> Bearer:
        """Verify a token that says to be this issuer's.

        Args:
            token: in its compact form.
            key_id: the `kid` of its header.

        Raises:
            RefusedTokenError: it is not right, or not now, or not for us.
        """
        key = self._keys.get(None) or (self._keys.get(key_id) if isinstance(key_id, str) else None)
        if key is None:
            raise RefusedTokenError("is signed with a key that is not known here")
        algorithms = self.issuer.algorithms & (
            {key.algorithm} if key.algorithm else self.issuer.algorithms
        )
        try:
            claims = jwt.decode(
                token,
                key.public,
                algorithms=sorted(algorithms),
                audience=self.issuer.audience,
                issuer=self.issuer.issuer,
                leeway=_LEEWAY_S,
                options={"require": _CLAIMS},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            # The types of the claims are the client's, and not all are checked by the library.
            raise RefusedTokenError(_REASONS.get(type(error), "is not known here")) from None
        return Bearer(client=self._client(claims), scopes=self._scopes(claims))

    def _client(self, claims: Mapping[str, Any]) -> str:
        client = f"{self.issuer.name}/{claims['sub']}"
        if not claims["sub"] or not clean({"client": client}):
            raise RefusedTokenError("has a subject that is no name for a log")
        return client

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        said = claims.get(self.issuer.scope_claim, ())
        words = said.split() if isinstance(said, str) else said if isinstance(said, list) else ()
        known = self.issuer.scopes
        return frozenset(known[word] for word in words if isinstance(word, str) and word in known)


def read_keys(path: Path) -> dict[str | None, Key]:
    """Read public keys: of a JWK set by their `kid`, or of a PEM file the one for None.

    Raises:
        ConfigError: there are none, or one of them is not a public key for signatures.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if content.lstrip().startswith(b"{"):
        return _keys_of_set(content, path)
    try:
        public = load_pem_public_key(content)
    except ValueError as error:
        raise ConfigError(f"{path}: expected a JWK set, or a public key as PEM") from error
    return {None: Key(public=_checked(public, path), algorithm=None)}


def _keys_of_set(content: bytes, path: Path) -> dict[str | None, Key]:
    keys: dict[str | None, Key] = {}
    try:
        entries = [entry for entry in json.loads(content)["keys"] if entry.get("use") != "enc"]
        for number, entry in enumerate(entries, start=1):
            if not isinstance(entry.get("kid"), str) or entry["kid"] in keys:
                raise ConfigError(f"{path}: key {number}: expected a kid of its own")
            if "d" in entry or "k" in entry:
                raise ConfigError(f"{path}: key {number}: is secret, expected a public key")
            public = _checked(jwt.PyJWK(entry).key, path)
            keys[entry["kid"]] = Key(public=public, algorithm=entry.get("alg"))
    except _WAYS_OF_REFUSING as error:
        raise ConfigError(f"{path}: expected a JWK set of public keys for signatures") from error
    if not keys:
        raise ConfigError(f"{path}: holds no key for signatures, expected one at least")
    return keys


def _checked(key: object, path: Path) -> PublicKey:
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        raise ConfigError(f"{path}: expected public keys of RSA, of an elliptic curve or Ed25519")
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise ConfigError(f"{path}: an RSA key of {key.key_size} bits, expected {_MIN_RSA_BITS}")
    return key
