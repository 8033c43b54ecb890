"""Where a cluster finds what the flow starts from: the archive under DVC, and the champion."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from bonexray.errors import ConfigError
from bonexray.store import BundleStore, Champion

SIMULATED_ARCHIVE = "data/MURA-sim.zip"
"""What `simulate` writes in dvc.yaml."""
_SIMULATED = "simulated"
_MD5 = re.compile(r"[0-9a-f]{32}")
_STORE = "release.cluster.store, where the champion lies"
_OBJECT_STORES = ("s3://", "gs://")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Addresses that carry the hash of what lies there: Kubeflow's cache looks at no more."""

    data: str
    """Hash of the archive."""
    archive: str | None
    """Address of the archive; None when it is simulated."""
    champion: Champion | None
    bundle: str | None
    """Address of the champion's bundle."""


def find_sources(archive: str, release: Path, store: str) -> Sources:
    """Look up what params.yaml names.

    Args:
        archive: as `data.archive` has it, under DVC or simulated.
        release: the release folder.
        store: the cluster's copy of it.

    Raises:
        ConfigError: DVC does not know the archive, or it or the champion lies where no cluster can
            fetch it.
        BundleError: the pointer to the champion cannot be read.
    """
    champion = BundleStore(release).champion()
    bundle = _fetchable(f"{store}/bundles/{champion.digest}", _STORE) if champion else None
    if archive == SIMULATED_ARCHIVE:
        return Sources(data=_SIMULATED, archive=None, champion=champion, bundle=bundle)
    return Sources(
        data=_tracked_hash(archive), archive=_address(archive), champion=champion, bundle=bundle
    )


def local_sources(archive: str, release: Path, bring: Callable[[Path], Path]) -> Sources:
    """The same on this machine.

    Args:
        archive: as `data.archive` has it.
        release: the release folder.
        bring: puts a file or folder where the steps can read it, and says where.

    Raises:
        BundleError: the pointer to the champion cannot be read.
    """
    store = BundleStore(release)
    champion = store.champion()
    simulated = archive == SIMULATED_ARCHIVE
    return Sources(
        data=_SIMULATED if simulated else _tracked_hash(archive),
        archive=None if simulated else str(bring(Path(archive))),
        champion=champion,
        bundle=str(bring(store.folder(champion.digest))) if champion else None,
    )


def _tracked_hash(archive: str) -> str:
    tracked = Path(f"{archive}.dvc")
    try:
        found = str(yaml.safe_load(tracked.read_bytes())["outs"][0]["md5"])
        if not _MD5.fullmatch(found):
            raise ValueError(f"md5: {found}")
        return found
    except (OSError, KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"data.archive = {archive!r}: {tracked} tells no hash of it; expected an archive that "
            "`make mura` or `dvc add` put under DVC"
        ) from error


def _address(archive: str) -> str:
    """The object in DVC's default remote. Its name is its hash."""
    from dvc.api import get_url  # here: it takes a second to import
    from dvc.exceptions import DvcException

    try:
        address = str(get_url(archive))
    except DvcException as error:
        raise ConfigError(f"data.archive = {archive!r}: DVC finds no address: {error}") from error
    return _fetchable(address, f"DVC's default remote, where data.archive = {archive!r} lies")


def _fetchable(address: str, named: str) -> str:
    if not address.startswith(_OBJECT_STORES):
        raise ConfigError(
            f"{named}: {address} is nothing that Kubeflow fetches, expected one of "
            f"{', '.join(_OBJECT_STORES)}"
        )
    return address
