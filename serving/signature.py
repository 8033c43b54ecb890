"""Signatures of bundles after OpenSSF Model Signing (v1.0), and the keys that make them.

A signature names every file of a bundle's folder with its digest. It lies beside the folder, never
in it. What signatures are verified with is one file: a public key, or root certificates.

Source: https://github.com/ossf/model-signing-spec
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import signing, verifying

from bonexray.artifacts import whole_file
from bonexray.bundle import Bundle
from bonexray.errors import ConfigError, SignatureError
from bonexray.store import BundleStore

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PASSWORD = "BONEXRAY_KEY_PASSWORD"


def make_keys(private_key: Path, trust: Path) -> None:
    """Write a new pair of keys (NIST P-256); the private one for its owner's eyes alone.

    Raises:
        ConfigError: one of the files is there: a key is never replaced.
    """
    for path in (private_key, trust):
        if path.exists():
            raise ConfigError(f"{path}: is there already; a key is never replaced")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for path, data in ((private_key, secret), (trust, public)):
        with whole_file(path) as partial:
            partial.chmod(0o600 if path == private_key else 0o644)
            partial.write_bytes(data)


def sign_bundle(folder: Path, private_key: Path, certificates: Sequence[Path]) -> str:
    """Sign a bundle's folder, and return the signature: a Sigstore bundle, as JSON.

    Args:
        folder: of the bundle.
        private_key: PEM; the environment's BONEXRAY_KEY_PASSWORD opens it when it is encrypted.
        certificates: the signing certificate and then its chain, PEM; none when the bare key signs.

    Raises:
        SignatureError: the key or a certificate cannot be used.
    """
    try:
        if certificates:
            signer = signing.Config().use_certificate_signer(
                private_key=private_key,
                signing_certificate=certificates[0],
                certificate_chain=certificates[1:] or certificates,  # it reads no empty one
            )
        else:
            password = os.environ.get(_PASSWORD, "").encode() or None
            signer = signing.Config().use_elliptic_key_signer(
                private_key=private_key,
                password=password,  # type: ignore[arg-type]  # bytes is what works
            )
        with tempfile.TemporaryDirectory() as scratch:
            signer.sign(folder, Path(scratch) / "signature")
            return (Path(scratch) / "signature").read_text(encoding="utf-8")
    except (OSError, TypeError, ValueError) as error:
        raise SignatureError(f"{private_key}: cannot sign {folder}: {_line(error)}") from error


def verify_signature(folder: Path, signature: Path, trust: Path) -> None:
    """Refuse a folder whose files are not those that somebody we trust has signed.

    Args:
        folder: of the bundle.
        signature: beside it.
        trust: a public key, or root certificates, PEM.

    Raises:
        SignatureError: there is no signature, it is not by that key, or the files are others.
    """
    try:
        pem = trust.read_bytes()
    except OSError as error:
        raise SignatureError(
            f"{trust}: cannot be read, and no bundle is served on trust alone: {error.strerror}"
        ) from error
    if not signature.is_file():
        raise SignatureError(f"{signature}: no such signature; an approval writes it")
    try:
        config = verifying.Config()
        if _CERTIFICATE in pem:
            config.use_certificate_verifier(certificate_chain=[trust])
        else:
            config.use_elliptic_key_verifier(public_key=trust)
        config.verify(folder, signature)
    except InvalidSignature as error:
        raise SignatureError(f"{signature}: not signed by the key of {trust}") from error
    except Exception as error:
        # The library raises whatever its own libraries do on what is no signature, or another's;
        # a bundle whose signature was not verified is refused, for whatever reason.
        raise SignatureError(f"{signature}: {_line(error)}") from error


def open_signed(store: BundleStore, digest: str, trust: Path) -> Bundle:
    """Read a bundle whose every digest and whose signature were verified.

    Raises:
        SignatureError: as `verify_signature`.
        BundleError: it is not there, was altered, or is not the one its folder is named for.
    """
    bundle = store.open(digest)
    verify_signature(store.folder(digest), store.signature(digest), trust)
    return bundle


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
