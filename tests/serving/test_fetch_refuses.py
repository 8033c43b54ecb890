import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bonexray.bundle import MODEL_FILE
from bonexray.errors import BundleError, SignatureError
from bonexray.sealed import seal
from bonexray.store import BundleStore
from serving.signature import make_keys, sign_bundle
from tests.serving.object_store import (
    URL,
    digest_of,
    fetched,
)


def altered(release: BundleStore, folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"altered")


def resealed(release: BundleStore, folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"altered")
    seal(folder)


def with_an_extra_file(release: BundleStore, folder: Path) -> None:
    (folder / "extra.py").write_text("import os")


def with_a_folder(release: BundleStore, folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more/model.onnx").write_text("")


def with_a_link(release: BundleStore, folder: Path) -> None:
    (folder / MODEL_FILE).unlink()
    (folder / MODEL_FILE).symlink_to("/etc/hostname")


def unsigned(release: BundleStore, folder: Path) -> None:
    release.signature(folder.name).unlink()


def signed_by_another(release: BundleStore, folder: Path) -> None:
    keys = release.root / "other.key", release.root / "other.pub"
    make_keys(*keys)
    release.signature(folder.name).write_text(sign_bundle(folder, keys[0], []))


def with_the_signature_of_another_bundle(release: BundleStore, folder: Path) -> None:
    other = release.root / "other"
    shutil.copytree(folder, other)
    (other / MODEL_FILE).write_bytes(b"another network")
    key = release.root.parent / "release.key"
    release.signature(folder.name).write_text(sign_bundle(other, key, []))


def of_another_digest(release: BundleStore, folder: Path) -> None:
    resealed(release, folder)
    key = release.root.parent / "release.key"
    release.signature(folder.name).write_text(sign_bundle(folder, key, []))


def without_its_bundle(release: BundleStore, folder: Path) -> None:
    shutil.rmtree(folder)


SPOILT: list[tuple[Callable[[BundleStore, Path], None], type[Exception], str]] = [
    (altered, BundleError, "model.onnx: SHA-256 is"),
    (resealed, BundleError, "holds the bundle"),
    (with_an_extra_file, BundleError, "extra.py"),
    (with_a_folder, BundleError, "more"),
    (with_a_link, BundleError, "is no file"),
    (unsigned, SignatureError, "holds no signatures/"),
    (signed_by_another, SignatureError, "bundle.sig: Key mismatch"),
    (with_the_signature_of_another_bundle, SignatureError, "bundle.sig: "),
    (of_another_digest, BundleError, "holds the bundle"),
    (without_its_bundle, BundleError, "holds no bundles/"),
]


@pytest.mark.parametrize(("spoil", "error", "message"), SPOILT)
def test_what_is_not_the_signed_bundle_is_never_served_from_a_volume(
    release: BundleStore,
    tmp_path: Path,
    spoil: Callable[[BundleStore, Path], None],
    error: type[Exception],
    message: str,
) -> None:
    spoil(release, release.folder(digest_of(release)))
    with pytest.raises(error, match=message):
        fetched(release, release.root, tmp_path / "pod")
    assert not any((tmp_path / "pod").iterdir())


@pytest.mark.parametrize(
    ("spoil", "error", "message"), [case for case in SPOILT if case[0] is not with_a_link]
)
def test_what_is_not_the_signed_bundle_is_never_served_from_s3(
    bucket: Any,
    release: BundleStore,
    tmp_path: Path,
    spoil: Callable[[BundleStore, Path], None],
    error: type[Exception],
    message: str,
) -> None:
    spoil(release, release.folder(digest_of(release)))
    for path in release.root.rglob("*"):
        if path.is_file():
            key = f"bonexray/release/{path.relative_to(release.root).as_posix()}"
            bucket.upload_file(str(path), key)
    with pytest.raises(error, match=message):
        fetched(release, URL, tmp_path / "pod")
    assert not any((tmp_path / "pod").iterdir())
