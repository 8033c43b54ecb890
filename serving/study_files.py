"""The files of studies, as a command line names them. Knows no server.

What is in a folder beside views (notes, a DICOMDIR, a Mac's hidden files) is left alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bonexray.errors import DataError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_DICOM_AT, _DICOM = 128, b"DICM"
_INDEX = "DICOMDIR"
"""A directory of other files, and itself in DICOM's format (PS3.10 section 8)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFiles:
    """One study."""

    name: str
    """Its folder as it was named; empty when its views were named one by one."""
    views: tuple[Path, ...]
    """One or more, in the order of the numbers in their names."""

    @property
    def num_bytes(self) -> int:
        """Of all views."""
        return sum(view.stat().st_size for view in self.views)


def find_studies(places: Sequence[Path]) -> list[StudyFiles]:
    """The studies that a command line names.

    Args:
        places: folders, each with all views of one study; or views, of one study together.

    Raises:
        DataError: one is missing, a folder holds no view, or there are both folders and files.
    """
    for place in places:
        if not place.exists():
            raise DataError(f"{place}: no such file or folder")
    folders = [place.is_dir() for place in places]
    if all(folders):
        return [StudyFiles(name=str(place), views=_views_in(place)) for place in places]
    if any(folders):
        raise DataError("both folders and files: expected folders of a study each, or its views")
    return [StudyFiles(name="", views=tuple(places))]


def _views_in(folder: Path) -> tuple[Path, ...]:
    views = [path for path in folder.iterdir() if _is_view(path)]
    if not views:
        raise DataError(f"{folder}: holds no PNG, JPEG or DICOM file; give the folder of one study")
    return tuple(sorted(views, key=_by_number))


def _is_view(path: Path) -> bool:
    if path.name.startswith(".") or path.stem.upper() == _INDEX or not path.is_file():
        return False
    if path.suffix.lower() in _SUFFIXES:
        return True  # whatever it holds: one that is damaged is told of, not left out
    with path.open("rb") as file:
        start = file.read(_DICOM_AT + len(_DICOM))
    return start.startswith(_STARTS) or start[_DICOM_AT:] == _DICOM


def _by_number(path: Path) -> list[str | int]:
    """`image10` follows `image9`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if part.isdecimal() else part for part in parts]
