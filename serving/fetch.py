"""Fetch one signed bundle from the cluster's store: `python -m serving.fetch`, before `serving`.

The store is a copy of the release folder, in S3 or on a volume. What is fetched is named by its
digest, so the store decides nothing: it can only fail to hold what was asked for.
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from bonexray.artifacts import remove, scratch_path, whole_file
from bonexray.bundle import verify_bundle
from bonexray.command import run_or_exit
from bonexray.errors import BundleError, ConfigError, SignatureError, StoreError
from bonexray.sealed import MANIFEST_FILE
from bonexray.store import BundleStore, Champion
from serving.signature import verify_signature

MAX_FILES = 100
MAX_BYTES = 2 << 30
_CHUNK = 1 << 20
_PATIENCE = Config(
    connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 3}
)


class Place(Protocol):
    """A copy of a release folder, wherever it lies."""

    def sizes(self, below: str) -> dict[str, int]:
        """Size of each file, by its name below a folder; no more than one above MAX_FILES."""

    def open(self, name: str) -> IO[bytes] | None:
        """A file to read from its beginning; None when it is not there."""


class Folder:
    """A store on a mounted volume."""

    def __init__(self, root: str) -> None:
        """Use the folder; nothing is read yet."""
        self.root = Path(root)

    def __str__(self) -> str:
        """As in a message."""
        return str(self.root)

    def sizes(self, below: str) -> dict[str, int]:
        """As of a Place. Raises BundleError on what is no file, which could be read for ever."""
        if not (self.root / below).is_dir():
            return {}
        found: dict[str, int] = {}
        for path in (self.root / below).iterdir():
            if path.is_symlink() or not path.is_file():
                raise BundleError(f"{path}: is no file, and a bundle holds nothing else")
            found[path.name] = path.stat().st_size
            if len(found) > MAX_FILES:
                break
        return found

    def open(self, name: str) -> IO[bytes] | None:
        """As of a Place."""
        path = self.root / name
        return path.open("rb") if path.is_file() and not path.is_symlink() else None


class Bucket:
    """A store in S3; where, and with which keys, is the environment's to say."""

    def __init__(self, url: str) -> None:
        """Name the bucket; nothing is asked yet. Raises StoreError without a region or keys."""
        self.url = url.rstrip("/")
        self.bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        with self._told():
            self._client: Any = boto3.client("s3", config=_PATIENCE)

    def __str__(self) -> str:
        """As in a message."""
        return self.url

    def sizes(self, below: str) -> dict[str, int]:
        """As of a Place. Raises StoreError."""
        start = self.prefix + below
        with self._told():
            found = self._client.list_objects_v2(
                Bucket=self.bucket, Prefix=start, MaxKeys=MAX_FILES + 1
            )
        sizes = {
            item["Key"].removeprefix(start): item["Size"] for item in found.get("Contents", ())
        }
        sizes.pop("", None)  # consoles write an empty object where they show a folder
        return sizes

    def open(self, name: str) -> IO[bytes] | None:
        """As of a Place. Raises StoreError."""
        with self._told():
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self.prefix + name)
            except self._client.exceptions.NoSuchKey:
                return None
        body: IO[bytes] = answer["Body"]
        return body

    def write(self, name: str, path: Path) -> None:
        """Upload a file. Raises StoreError."""
        with self._told(), path.open("rb") as file:
            self._client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=file)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what S3 said in one line, without the address of anything that is signed."""
        try:
            yield
        except (BotoCoreError, ClientError, ValueError) as error:
            raise StoreError(f"{self.url}: {' '.join(str(error).split())}") from error


def place(source: str) -> Folder | Bucket:
    """The store at an address: `s3://bucket/prefix`, or a folder."""
    return Bucket(source) if source.startswith("s3://") else Folder(source)


def fetch(source: str, champion: Champion, trust: Path, out: Path) -> None:
    """Make `out` a release folder that holds one verified bundle and points to it.

    Args:
        source: `s3://bucket/prefix` or a folder, laid out as a release folder.
        champion: the bundle, by its digest, and what it is called.
        trust: what signatures are verified with, PEM.
        out: folder that `python -m serving` reads.

    Raises:
        StoreError: the store cannot be reached, or refuses.
        BundleError: it does not hold the bundle, or its files are others, too many or too large.
        SignatureError: it is not signed by whom we trust.
    """
    there, store = place(source), BundleStore(out)
    scratch = scratch_path(out / "bundle", "fetched")
    remove(scratch)
    try:
        bundle, signature = scratch / "bundle", scratch / "bundle.sig"
        bundle.mkdir(parents=True)
        _download(there, champion.digest, bundle, signature)
        digest = verify_bundle(bundle)
        if digest != champion.digest:
            raise BundleError(f"{there}: bundles/{champion.digest} holds the bundle {digest}")
        verify_signature(bundle, signature, trust)
        store.add(bundle)
        with whole_file(store.signature(digest)) as partial:
            shutil.copyfile(signature, partial)
        store.set_champion(champion)
    finally:
        remove(scratch)


def publish(store: BundleStore, digest: str, destination: str) -> bool:
    """Upload a bundle and its signature, the manifest last; return whether anything was missing.

    Args:
        store: holds it, signed.
        digest: of the bundle.
        destination: `s3://bucket/prefix`.

    Raises:
        ConfigError: the destination is not in S3.
        BundleError: the store does not hold the bundle, or it was altered.
        SignatureError: the store holds no signature of it.
        StoreError: the destination cannot be reached, or refuses.
    """
    there = place(destination)
    if not isinstance(there, Bucket):
        raise ConfigError(f"{destination}: expected s3://bucket/prefix; copy to a volume by hand")
    store.open(digest)
    signature, below = store.signature(digest), f"bundles/{digest}/"
    if not signature.is_file():
        raise SignatureError(f"{signature}: no such signature; an approval writes it")
    manifest = store.folder(digest) / MANIFEST_FILE
    paths = [path for path in sorted(store.folder(digest).iterdir()) if path != manifest]
    paths.append(manifest)
    changed = not _holds(there, f"signatures/{digest}.sig", signature)
    if changed:
        there.write(f"signatures/{digest}.sig", signature)
    expected = {path.name: path.stat().st_size for path in paths}
    if _holds(there, below + MANIFEST_FILE, manifest) and there.sizes(below) == expected:
        return changed
    for path in paths:
        there.write(below + path.name, path)
    return True


def _holds(there: Place, name: str, path: Path) -> bool:
    """Whether a small file is there as it is here."""
    file = there.open(name)
    if file is None:
        return False
    with file:
        return file.read(path.stat().st_size + 1) == path.read_bytes()


def _download(there: Place, digest: str, bundle: Path, signature: Path) -> None:
    """Copy a bundle's files and its signature, none of them verified yet."""
    below = f"bundles/{digest}/"
    sizes = there.sizes(below)
    if not sizes:
        raise BundleError(f"{there}: holds no {below}; `serving.rollout start` publishes it")
    if len(sizes) > MAX_FILES:
        raise BundleError(f"{there}: {below} holds more than {MAX_FILES} files")
    for name in sizes:
        if name in (".", "..") or any(sign in name for sign in "/\\\0"):
            raise BundleError(f"{there}: {below} holds {name!r}, expected plain names of files")
    total = sum(sizes.values())
    if total > MAX_BYTES:
        raise BundleError(f"{there}: {below} is {total} bytes, expected at most {MAX_BYTES}")
    left = MAX_BYTES
    for name in sizes:
        left -= _copy(there, below + name, bundle / name, left)
    try:
        _copy(there, f"signatures/{digest}.sig", signature, left)
    except BundleError as error:
        raise SignatureError(f"{error}; an approval writes it") from error


def _copy(there: Place, name: str, target: Path, most: int) -> int:
    """Copy one file and return its size: what was listed is not what has to come."""
    file, size = there.open(name), 0
    if file is None:
        raise BundleError(f"{there}: holds no {name}")
    try:
        with file, target.open("wb") as copied:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > most:
                    raise BundleError(f"{there}: {name} is longer than the {most} bytes allowed")
                copied.write(chunk)
    except BotoCoreError as error:
        raise StoreError(f"{there}: {name}: {' '.join(str(error).split())}") from error
    return size


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.fetch",
        description="Fetch one signed bundle from the cluster's store.",
        allow_abbrev=False,
    )
    parser.add_argument("--source", required=True, help="s3://bucket/prefix, or a folder")
    parser.add_argument("--digest", required=True, help="of the bundle")
    parser.add_argument("--version", required=True, help="the registry's version of it")
    parser.add_argument("--model-name", required=True, help="name in the registry")
    parser.add_argument("--trust", type=Path, required=True, help="PEM file to verify with")
    parser.add_argument("--out", type=Path, required=True, help="folder that serving reads")
    args = parser.parse_args(argv)

    def run() -> None:
        named = {"model_name": args.model_name, "version": args.version, "digest": args.digest}
        try:
            champion = Champion(**named)
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            flag, reason = field.replace("_", "-"), error.errors()[0]["msg"]
            raise ConfigError(f"--{flag} {named[field]!r}: {reason}") from error
        fetch(args.source, champion, args.trust, args.out)
        print(f"fetch: version {champion.version} ({champion.digest[:12]}) is in {args.out}/")

    run_or_exit("fetch", run)


if __name__ == "__main__":
    main()
