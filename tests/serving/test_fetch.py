from pathlib import Path
from typing import Any

import pytest

from bonexray.errors import BundleError, ConfigError, SignatureError, StoreError
from bonexray.store import BundleStore
from serving import fetch as fetching
from serving.fetch import main, publish
from serving.signature import open_signed, sign_bundle
from tests.serving.object_store import (
    URL,
    champion,
    digest_of,
    fetched,
    keys,
)


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


def test_a_volume_is_filled_by_hand_and_nothing_unsigned_or_altered_is_published(
    bucket: Any, release: BundleStore
) -> None:
    digest = digest_of(release)
    with pytest.raises(ConfigError, match="copy to a volume by hand"):
        publish(release, digest, "pvc://claim/folder")
    release.signature(digest).unlink()
    with pytest.raises(SignatureError, match="an approval writes it"):
        publish(release, digest, URL)
    (release.folder(digest) / "model.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match="model.onnx: SHA-256 is"):
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
