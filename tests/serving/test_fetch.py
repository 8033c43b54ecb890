import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from bonexray.bundle import MODEL_FILE
from bonexray.errors import BundleError, ConfigError, SignatureError
from bonexray.store import BundleStore, Champion
from serving import fetch as fetching
from serving.fetch import StoreError, fetch, main, publish
from serving.signature import make_keys, open_signed, sign_bundle

URL = "s3://hospital/bonexray/release"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of an S3 server with one bucket, `hospital`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with Path(os.devnull).open("w") as quiet:
        server = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bucket, empty, where the environment says."""
    for name, value in (
        ("AWS_ENDPOINT_URL", s3),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3").Bucket("hospital")
    bucket.create()
    bucket.objects.delete()
    return bucket


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> Path:
    """A release folder with one signed bundle, and beside it the keys."""
    folder = tmp_path_factory.mktemp("signed")
    make_keys(folder / "release.key", folder / "release.pub")
    store = BundleStore(folder / "release")
    digest = store.add(bundle_folder)
    store.signature(digest).parent.mkdir()
    signature = sign_bundle(store.folder(digest), folder / "release.key", [])
    store.signature(digest).write_text(signature)
    store.set_champion(champion(digest))
    return folder


@pytest.fixture
def release(signed: Path, tmp_path: Path) -> BundleStore:
    """A copy of it to spoil; its keys lie beside it."""
    shutil.copytree(signed, tmp_path / "team")
    return BundleStore(tmp_path / "team/release")


def champion(digest: str) -> Champion:
    return Champion(model_name="bonexray", version="3", digest=digest)


def digest_of(release: BundleStore) -> str:
    found = release.champion()
    assert found is not None
    return found.digest


def fetched(release: BundleStore, source: str | Path, out: Path) -> BundleStore:
    fetch(str(source), champion(digest_of(release)), release.root.parent / "release.pub", out)
    return BundleStore(out)


def keys(bucket: Any) -> set[str]:
    return {item.key for item in bucket.objects.all()}


def test_what_is_published_is_fetched_verified_and_pointed_to(
    bucket: Any, release: BundleStore, tmp_path: Path
) -> None:
    digest = digest_of(release)
    assert publish(release, digest, URL)
    pod = fetched(release, URL, tmp_path / "pod")
    assert pod.champion() == champion(digest)
    open_signed(pod, digest, release.root.parent / "release.pub")
    assert sorted(path.name for path in pod.root.iterdir()) == [
        "bundles",
        "champion.json",
        "profile.json",
        "signatures",
    ]
    assert all(key.startswith("bonexray/release/") for key in keys(bucket))


def test_a_bundle_that_is_there_already_is_not_uploaded_again(
    bucket: Any, release: BundleStore
) -> None:
    digest = digest_of(release)
    assert publish(release, digest, URL)
    before = {item.key: item.last_modified for item in bucket.objects.all()}
    assert not publish(release, digest, URL)
    assert {item.key: item.last_modified for item in bucket.objects.all()} == before


def test_an_upload_that_was_cut_off_has_no_manifest_yet_and_is_finished_by_the_next(
    bucket: Any, release: BundleStore, tmp_path: Path
) -> None:
    digest, put = digest_of(release), []
    bucket.meta.client.meta.events.register("before-call", lambda **_: None)
    original = fetching.Bucket.write

    def write(self: Any, name: str, path: Path) -> None:
        if len(put) == 3:
            raise KeyboardInterrupt
        put.append(name)
        original(self, name, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching.Bucket, "write", write)
        with pytest.raises(KeyboardInterrupt):
            publish(release, digest, URL)
    assert len(keys(bucket)) == 3
    assert not any(key.endswith("manifest.json") for key in keys(bucket))
    with pytest.raises(BundleError, match="manifest.json"):
        fetched(release, URL, tmp_path / "pod")
    assert publish(release, digest, URL)
    fetched(release, URL, tmp_path / "pod")


def test_a_new_signature_of_the_same_bundle_is_published(
    bucket: Any, release: BundleStore, tmp_path: Path
) -> None:
    digest = digest_of(release)
    publish(release, digest, URL)
    key = release.root.parent / "release.key"
    release.signature(digest).write_text(sign_bundle(release.folder(digest), key, []))
    assert publish(release, digest, URL)
    pod = fetched(release, URL, tmp_path / "pod")
    assert pod.signature(digest).read_bytes() == release.signature(digest).read_bytes()


def test_a_bundle_comes_from_a_volume_too(release: BundleStore, tmp_path: Path) -> None:
    pod = fetched(release, release.root, tmp_path / "pod")
    assert pod.champion() == champion(digest_of(release))


def altered(release: BundleStore, folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"altered")


def resealed(release: BundleStore, folder: Path) -> None:
    from bonexray.sealed import seal

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
    (signed_by_another, SignatureError, "not signed by the key"),
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


@pytest.mark.parametrize("name", ["../../champion.json", "..", "a/b", "/etc/x", "a\\b"])
def test_a_key_that_would_leave_the_folder_is_refused(
    bucket: Any, release: BundleStore, tmp_path: Path, name: str
) -> None:
    digest = digest_of(release)
    publish(release, digest, URL)
    bucket.put_object(Key=f"bonexray/release/bundles/{digest}/{name}", Body=b"x")
    with pytest.raises(BundleError, match="expected plain names of files"):
        fetched(release, URL, tmp_path / "pod")
    assert not any((tmp_path / "pod").iterdir())


def test_too_many_files_and_too_many_bytes_are_refused_before_they_are_read(
    bucket: Any, release: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digest_of(release)
    publish(release, digest, URL)
    monkeypatch.setattr(fetching, "MAX_BYTES", 1000)
    with pytest.raises(BundleError, match="expected at most 1000"):
        fetched(release, URL, tmp_path / "pod")
    for number in range(100):
        bucket.put_object(Key=f"bonexray/release/bundles/{digest}/{number}", Body=b"")
        (release.folder(digest) / str(number)).touch()
    for source in (URL, release.root):
        with pytest.raises(BundleError, match="more than 100 files"):
            fetched(release, source, tmp_path / "pod")
    assert not any((tmp_path / "pod").iterdir())


def test_a_file_that_is_longer_than_was_listed_is_cut_off(
    release: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = release.folder(digest_of(release))
    monkeypatch.setattr(fetching, "MAX_BYTES", 1000)
    monkeypatch.setattr(
        fetching.Folder, "sizes", lambda *_: {path.name: 1 for path in folder.iterdir()}
    )
    with pytest.raises(BundleError, match="is longer than the"):
        fetched(release, release.root, tmp_path / "pod")


def test_what_a_killed_fetch_left_is_cleared(release: BundleStore, tmp_path: Path) -> None:
    left = tmp_path / "pod/.bundle.fetched/bundle"
    left.mkdir(parents=True)
    (left / "extra.py").write_text("import os")
    pod = fetched(release, release.root, tmp_path / "pod")
    assert not (pod.root / ".bundle.fetched").exists()


def test_a_store_that_cannot_be_reached_or_refuses_says_so_in_a_line(
    bucket: Any, release: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="s3://nobody/x: .*NoSuchBucket") as refused:
        fetched(release, "s3://nobody/x", tmp_path / "pod")
    assert "\n" not in str(refused.value)
    with pytest.raises(StoreError, match="NoSuchBucket"):
        publish(release, digest_of(release), "s3://nobody/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="127.0.0.1:9"):
        fetched(release, URL, tmp_path / "pod")


def test_a_volume_is_filled_by_hand_and_nothing_unsigned_is_published(
    bucket: Any, release: BundleStore
) -> None:
    digest = digest_of(release)
    with pytest.raises(ConfigError, match="copy to a volume by hand"):
        publish(release, digest, "pvc://claim/folder")
    release.signature(digest).unlink()
    with pytest.raises(SignatureError, match="an approval writes it"):
        publish(release, digest, URL)
    assert keys(bucket) == set()


def test_the_command_says_what_it_fetched_and_refuses_in_a_line(
    release: BundleStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = digest_of(release)
    flags = ["--source", str(release.root), "--model-name", "bonexray", "--version", "3"]
    flags += ["--trust", str(release.root.parent / "release.pub"), "--out", str(tmp_path / "pod")]
    main([*flags, "--digest", digest])
    assert f"version 3 ({digest[:12]}) is in" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        main([*flags, "--digest", "../x"])
    error = capsys.readouterr().err
    assert "--digest '../x'" in error
    assert error.count("\n") == 1
