"""A bucket, and signed release folders to publish there and to fetch."""

from pathlib import Path
from typing import Any

import boto3
import pytest

from bonexray.store import BundleStore, Champion
from serving.fetch import fetch
from serving.signature import make_keys, sign_bundle

BUCKET = "hospital"
URL = f"s3://{BUCKET}/bonexray/release"


def bucket_at(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bucket, empty, where the environment says from now on."""
    for name, value in (
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3").Bucket(BUCKET)
    bucket.objects.delete()
    return bucket


def signed_release(folder: Path, bundle: Path) -> BundleStore:
    """A release folder with that bundle, signed; the keys lie beside it."""
    make_keys(folder / "release.key", folder / "release.pub")
    store = BundleStore(folder / "release")
    digest = store.add(bundle)
    store.signature(digest).parent.mkdir()
    signature = sign_bundle(store.folder(digest), folder / "release.key", [])
    store.signature(digest).write_text(signature)
    store.set_champion(champion(digest))
    return store


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
