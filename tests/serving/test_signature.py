"""A bundle's signature: by whom, over which files, and what is refused."""

import base64
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bonexray.errors import BonexrayError, ConfigError, SignatureError
from bonexray.sealed import seal
from bonexray.store import BundleStore
from serving.signature import make_keys, open_signed, sign_bundle, verify_signature


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "keys/release.key", tmp_path / "keys/release.pub"
    make_keys(private, public)
    return private, public


@pytest.fixture
def signed(bundle_folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> tuple[BundleStore, str]:
    """A store that holds the small bundle, signed."""
    store = BundleStore(tmp_path / "release")
    digest = store.add(bundle_folder)
    store.signature(digest).parent.mkdir()
    store.signature(digest).write_text(sign_bundle(store.folder(digest), keys[0], []))
    return store, digest


def test_a_signed_bundle_is_opened(
    signed: tuple[BundleStore, str], keys: tuple[Path, Path]
) -> None:
    store, digest = signed
    assert open_signed(store, digest, keys[1]).digest == digest


def test_the_private_key_is_its_owners_and_is_never_replaced(keys: tuple[Path, Path]) -> None:
    private, public = keys
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="never replaced"):
        make_keys(private, public)


def test_the_signature_is_an_openssf_model_signature_of_every_file(
    signed: tuple[BundleStore, str],
) -> None:
    store, digest = signed
    envelope = json.loads(store.signature(digest).read_text())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["predicateType"] == "https://model_signing/signature/v1.0"
    named = {resource["name"] for resource in statement["predicate"]["resources"]}
    assert named == {path.name for path in store.folder(digest).iterdir()}


def tamper(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"another graph")


def reseal(folder: Path) -> None:
    """Another sound bundle in its place."""
    info = json.loads((folder / "bundle.json").read_text())
    info["operating_points"]["high_sensitivity"] = 0.0001
    (folder / "bundle.json").write_text(json.dumps(info))
    seal(folder)


def add_pickle(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")


def add_ignored_file(folder: Path) -> None:
    """Which the library does not sign."""
    (folder / ".gitignore").write_text("model.pkl")


def add_link(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")


def escape(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["../../outside"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))


def drop_file(folder: Path) -> None:
    (folder / "typical.npz").unlink()


@pytest.mark.parametrize(
    "spoil", [tamper, reseal, add_pickle, add_ignored_file, add_link, escape, drop_file]
)
def test_other_files_than_those_that_were_signed_are_refused(
    signed: tuple[BundleStore, str], keys: tuple[Path, Path], spoil: Callable[[Path], None]
) -> None:
    store, digest = signed
    spoil(store.folder(digest))
    with pytest.raises(BonexrayError) as caught:
        open_signed(store, digest, keys[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", [tamper, reseal, add_pickle, add_link, drop_file])
def test_the_signature_alone_refuses_them_too(
    signed: tuple[BundleStore, str], keys: tuple[Path, Path], spoil: Callable[[Path], None]
) -> None:
    store, digest = signed
    spoil(store.folder(digest))
    with pytest.raises(SignatureError):
        verify_signature(store.folder(digest), store.signature(digest), keys[1])


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (None, "no such signature; an approval writes it"),
        ("", "sig:"),
        ("{}", "sig:"),
        ("not json", "sig:"),
        ('{"dsseEnvelope": 3}', "sig:"),
    ],
)
def test_no_signature_is_no_bundle(
    signed: tuple[BundleStore, str], keys: tuple[Path, Path], signature: str | None, message: str
) -> None:
    store, digest = signed
    store.signature(digest).unlink()
    if signature is not None:
        store.signature(digest).write_text(signature)
    with pytest.raises(SignatureError, match=message):
        open_signed(store, digest, keys[1])


def test_another_bundles_signature_does_not_do(
    signed: tuple[BundleStore, str], keys: tuple[Path, Path], tmp_path: Path
) -> None:
    store, digest = signed
    other = tmp_path / "other"
    shutil.copytree(store.folder(digest), other)
    reseal(other)
    store.signature(digest).write_text(sign_bundle(other, keys[0], []))
    with pytest.raises(SignatureError, match="Hash mismatch for 'bundle.json'"):
        open_signed(store, digest, keys[1])


def test_a_strangers_key_is_refused(signed: tuple[BundleStore, str], tmp_path: Path) -> None:
    store, digest = signed
    make_keys(tmp_path / "strange.key", tmp_path / "strange.pub")
    with pytest.raises(SignatureError, match="Key mismatch"):
        open_signed(store, digest, tmp_path / "strange.pub")
    signature = json.loads(store.signature(digest).read_text())
    signature["verificationMaterial"]["publicKey"]["hint"] = ""  # no word of whose it is
    store.signature(digest).write_text(json.dumps(signature))
    with pytest.raises(SignatureError):
        open_signed(store, digest, tmp_path / "strange.pub")


def test_keys_that_are_none_are_named(
    signed: tuple[BundleStore, str], keys: tuple[Path, Path], tmp_path: Path
) -> None:
    store, digest = signed
    (tmp_path / "empty.pub").touch()
    for trust in (tmp_path / "absent.pub", tmp_path / "empty.pub"):
        with pytest.raises(SignatureError):
            open_signed(store, digest, trust)
    for key in (tmp_path / "absent.key", keys[1]):
        with pytest.raises(SignatureError, match="cannot sign"):
            sign_bundle(store.folder(digest), key, [])


def test_an_encrypted_key_is_opened_by_the_password_of_the_environment(
    signed: tuple[BundleStore, str], keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, digest = signed
    key = serialization.load_pem_private_key(keys[0].read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    keys[0].write_bytes(encrypted)
    with pytest.raises(SignatureError, match="cannot sign"):
        sign_bundle(store.folder(digest), keys[0], [])
    monkeypatch.setenv("BONEXRAY_KEY_PASSWORD", "secret")
    store.signature(digest).write_text(sign_bundle(store.folder(digest), keys[0], []))
    assert open_signed(store, digest, keys[1]).digest == digest


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey
) -> bytes:
    """A root when a name vouches for itself, else one that may sign code."""
    root = name == issuer
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=root, crl_sign=root,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if not root:
        codesign = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        made = made.add_extension(codesign, critical=False)
    return made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_team_signs_with_a_certificate_and_trusts_its_root(
    bundle_folder: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    roots = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "other")}
    for name, key in roots.items():
        (tmp_path / f"{name}.pem").write_bytes(certificate(name, key, name, key))
    own = serialization.load_pem_private_key(keys[0].read_bytes(), None)
    assert isinstance(own, ec.EllipticCurvePrivateKey)
    (tmp_path / "own.pem").write_bytes(certificate("release", own, "root", roots["root"]))
    signature = tmp_path / "signature"
    signature.write_text(sign_bundle(bundle_folder, keys[0], [tmp_path / "own.pem"]))
    verify_signature(bundle_folder, signature, tmp_path / "root.pem")
    with pytest.raises(SignatureError):
        verify_signature(bundle_folder, signature, tmp_path / "other.pem")
