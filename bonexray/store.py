"""Where approved bundles lie, and which one is served. Knows no registry and no server.

    <root>/bundles/<digest>/          bundle folders, each named by its bundle's digest
    <root>/signatures/<digest>.sig    who vouches for them; `serving.signature` verifies it
    <root>/champion.json              which of them is served
    <root>/profile.json               what its training images were like, for `validate` to compare

Serving reads this folder alone, so a registry that is down has no effect on it.
"""

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bonexray.artifacts import whole_file, whole_folder, write_json
from bonexray.bundle import PROFILE_FILE, Bundle, open_bundle, verify_bundle
from bonexray.errors import BundleError
from bonexray.sealed import Sha256

CHAMPION_FILE = "champion.json"


class Champion(BaseModel):
    """The version that is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_name: str = Field(min_length=1)
    """The model's name in the registry."""
    version: str = Field(min_length=1)
    """The registry's version of it."""
    digest: Sha256
    """The bundle that this version is, whatever the registry says later."""


class BundleStore:
    """A folder of approved bundles and a pointer to the champion."""

    def __init__(self, root: Path) -> None:
        """Use the folder `root`, which need not exist yet."""
        self.root = root

    def add(self, folder: Path) -> str:
        """Copy a bundle in, whole or not at all, and return its digest.

        A bundle that is there already stays as it is; one that was altered is replaced.

        Raises:
            BundleError: the folder is not a sound bundle.
        """
        digest = verify_bundle(folder)
        if self._is_sound(digest):
            return digest
        with whole_folder(self.folder(digest)) as partial:
            for path in folder.iterdir():
                shutil.copyfile(path, partial / path.name)
            if verify_bundle(partial) != digest:
                raise BundleError(f"{folder}: changed while it was copied")
        return digest

    def set_champion(self, champion: Champion) -> None:
        """Point to the bundle that is served: a running server follows.

        Raises:
            BundleError: the store does not hold that bundle, or it was altered.
        """
        self.open(champion.digest)
        with whole_file(self.root / PROFILE_FILE) as partial:
            shutil.copyfile(self.folder(champion.digest) / PROFILE_FILE, partial)
        write_json(self.root / CHAMPION_FILE, champion.model_dump())

    def champion(self) -> Champion | None:
        """Read the pointer; None when nothing was approved yet.

        Raises:
            BundleError: the pointer cannot be read or a field is not what it should be.
        """
        pointer = self.root / CHAMPION_FILE
        try:
            return Champion.model_validate_json(pointer.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BundleError(f"{pointer}: cannot be read: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise BundleError(f"{pointer}: {field}: {first['msg']}") from error

    def open(self, digest: str) -> Bundle:
        """Verify and read one bundle.

        Raises:
            BundleError: it is not there, was altered, or is not the one its folder is named for.
        """
        folder = self.folder(digest)
        if not folder.is_dir():
            raise BundleError(f"{folder}: no such bundle")
        bundle = open_bundle(folder)
        if bundle.digest != digest:
            raise BundleError(f"{folder}: holds the bundle {bundle.digest}")
        return bundle

    def folder(self, digest: str) -> Path:
        """Where a bundle lies, or would."""
        return self.root / "bundles" / digest

    def signature(self, digest: str) -> Path:
        """Where a bundle's signature lies, or would: beside it, for a bundle has no extra file."""
        return self.root / "signatures" / f"{digest}.sig"

    def _is_sound(self, digest: str) -> bool:
        try:
            return self.open(digest).digest == digest
        except BundleError:
            return False
