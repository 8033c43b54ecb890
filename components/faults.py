"""Faults planted into a simulated archive, and the truth about where.

Which image or study a fault befalls is drawn from the plan, before anything is rendered; no
image gets two. Rendering then passes each image through `Planting.entries`.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar
from zlib import crc32

import numpy as np
from PIL import Image

from bonexray.config import Fault
from components import mura
from components.simulator.plan import Patient

BOMB_BYTES = 256 << 20
T = TypeVar("T")
Files = list[tuple[str, bytes]]
"""Paths below the archive's root, and their bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """One fault."""

    kind: Fault
    path: str
    """What is wrong: an image, a study's folder with a trailing slash, or an entry of the zip."""
    partner: str = ""
    """The other image, where two together are the fault."""


def _saved(image: Image.Image, file_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, quality=92)
    return buffer.getvalue()


def _opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def _deepened(png: bytes) -> bytes:
    return _saved(Image.fromarray(np.asarray(_opened(png)).astype(np.uint16) * 257))


def _declared_huge(png: bytes) -> bytes:
    """The file with 60,000 x 60,000 pixels in its header, under a correct checksum."""
    side = (60_000).to_bytes(4, "big")
    header = b"IHDR" + side * 2 + png[24:29]
    return png[:12] + header + crc32(header).to_bytes(4, "big") + png[33:]


def _strip(png: bytes) -> bytes:
    image = _opened(png)
    return _saved(image.resize((mura.WIDTH_PX[1], 70)))


def near_copy(png: bytes) -> bytes:
    """The same exposure, a little smaller and brighter, encoded with loss and again without."""
    image = _opened(png)
    smaller = image.resize((round(image.width * 0.94), round(image.height * 0.94)))
    return _saved(_opened(_saved(smaller.point(lambda grey: grey * 1.03 + 2), "JPEG")))


DAMAGES: Mapping[Fault, Callable[[bytes], bytes]] = {
    "truncated": lambda png: png[: len(png) * 2 // 5],
    "zero_byte": lambda png: b"",
    "wrong_extension": lambda png: _saved(_opened(png), "JPEG"),
    "sixteen_bit": _deepened,
    "rgb": lambda png: _saved(_opened(png).convert("RGB")),
    "rgba": lambda png: _saved(_opened(png).convert("RGBA")),
    "palette": lambda png: _saved(_opened(png).convert("P")),
    "constant": lambda png: _saved(Image.new("L", _opened(png).size, 90)),
    "inverted": lambda png: _saved(_opened(png).point(lambda grey: 255 - grey)),
    "absurd_aspect": _strip,
    "pixel_bomb": _declared_huge,
}
"""What befalls the bytes of one image."""
_OF_STUDIES: tuple[Fault, ...] = (
    "patient_in_both_splits",
    "study_without_image",
    "label_disagrees",
)
_OF_PAIRS: tuple[Fault, ...] = ("same_image_two_patients", "near_duplicate")
_OF_LISTS: tuple[Fault, ...] = ("row_without_file", "file_without_row", "stray")
_OF_THE_ZIP: dict[Fault, str] = {
    "zip_slip": "../outside.png",
    "zip_bomb": f"{mura.ROOT}/train/bomb.png",
}


@dataclass(kw_only=True)
class Planting:
    """The faults of one archive, applied as its files go by."""

    planted: list[Planted]
    _kinds: dict[str, Fault] = field(init=False)
    _originals: dict[str, bytes] = field(init=False, default_factory=dict)
    _sources: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Index what was planted by the path it befalls."""
        self._kinds = {fault.path: fault.kind for fault in self.planted}
        self._sources = {fault.path: fault.partner for fault in self.planted if fault.partner}

    def entries(self, path: str, png: bytes) -> Files:
        """What the archive holds in the place of one image; nothing where its file is missing."""
        kind = self._kinds.get(path)
        if path in self._sources.values():
            self._originals[path] = png
        if self._kinds.get(_folder(path)) == "study_without_image" or kind == "row_without_file":
            return []
        if kind is not None and kind in DAMAGES:
            return [(path, DAMAGES[kind](png))]
        if kind == "same_image_two_patients":
            return [(path, self._originals[self._sources[path]])]
        if kind == "near_duplicate":
            return [(path, near_copy(self._originals[self._sources[path]]))]
        return [(path, png)]

    def strays(self) -> Files:
        """Files that belong to no one."""
        return [
            (fault.path, b"\0\5\26\7 AppleDouble")
            for fault in self.planted
            if fault.kind == "stray"
        ]

    def lists(self, path: str) -> bool:
        """Whether the CSVs name an image."""
        gone = self._kinds.get(_folder(path)) == "study_without_image"
        return not gone and self._kinds.get(path) != "file_without_row"

    def label(self, folder: str, label: int) -> int:
        """What the CSVs say of a study."""
        return 1 - label if self._kinds.get(f"{folder}/") == "label_disagrees" else label

    def add_hostile(self, archive: zipfile.ZipFile) -> None:
        """Add the entries for whose sake the whole archive must be refused."""
        for fault in self.planted:
            if fault.kind in _OF_THE_ZIP:
                entry = zipfile.ZipInfo(fault.path)
                entry.compress_type = zipfile.ZIP_DEFLATED
                size = BOMB_BYTES if fault.kind == "zip_bomb" else 1
                with archive.open(entry, "w") as file:
                    for _ in range(0, size, 1 << 20):
                        file.write(bytes(min(size, 1 << 20)))

    def truth(self) -> list[dict[str, str]]:
        """What was planted, for simulation.json."""
        return [asdict(fault) for fault in self.planted]


def _folder(path: str) -> str:
    return path.rpartition("/")[0] + "/"


def plant(
    patients: list[Patient], rates: Mapping[Fault, float], seed: int
) -> tuple[list[Patient], Planting]:
    """Draw where faults go; at least one of each kind whose rate is not 0.

    Returns:
        The patients, some of them renamed to one of the other split, and the planting.
    """
    rng = np.random.default_rng([seed, 1])
    patients, planted = _leak(patients, rates.get("patient_in_both_splits", 0.0), rng)
    folders = [(f"{p.folder(s)}/", p) for p in patients for s in p.studies]
    taken = {fault.path for fault in planted}
    free = [folders[k] for k in rng.permutation(len(folders)) if folders[k][0] not in taken]
    for kind in _OF_STUDIES[1:]:
        for folder, _ in _share(free, rates.get(kind, 0.0), len(folders)):
            planted.append(Planted(kind=kind, path=folder))
            taken.add(folder)
    order = [path for p in patients for path in p.paths() if _folder(path) not in taken]
    planted += _draw_images(order, rates, rng)
    planted += [
        Planted(kind=kind, path=path) for kind, path in _OF_THE_ZIP.items() if rates.get(kind)
    ]
    return patients, Planting(planted=planted)


def _leak(
    patients: list[Patient], rate: float, rng: np.random.Generator
) -> tuple[list[Patient], list[Planted]]:
    """Give some patients of `valid` the number of one of `train`."""
    valid = [k for k, patient in enumerate(patients) if patient.split == "valid"]
    train = [patient.number for patient in patients if patient.split == "train"]
    chosen = _share([valid[k] for k in rng.permutation(len(valid))], rate, len(valid))
    renamed, planted = list(patients), []
    for k, number in zip(chosen, rng.choice(train, len(chosen), replace=False), strict=True):
        old = patients[k]
        renamed[k] = Patient(number=int(number), split="valid", studies=old.studies)
        planted += [
            Planted(kind="patient_in_both_splits", path=f"{renamed[k].folder(study)}/")
            for study in old.studies
        ]
    return renamed, planted


def _draw_images(
    order: list[str], rates: Mapping[Fault, float], rng: np.random.Generator
) -> list[Planted]:
    free = [order[k] for k in rng.permutation(len(order))]
    place = {path: k for k, path in enumerate(order)}
    planted = []
    for kind in _OF_PAIRS:
        for _ in range(_wanted(rates.get(kind, 0.0), len(order))):
            path = free.pop() if free else ""
            others = (p for p in free if p.split("/")[2] != path.split("/")[2])
            other = next(others, None)
            if other is None:
                break  # no pair is left that a fault has not befallen
            free.remove(other)
            # The copy comes later in the archive than what it copies.
            first, second = sorted((path, other), key=place.__getitem__)
            planted.append(Planted(kind=kind, path=second, partner=first))
    for kind in (*DAMAGES, *_OF_LISTS):
        for path in _share(free, rates.get(kind, 0.0), len(order)):
            stray = f"{_folder(path)}._{path.rpartition('/')[2]}"
            planted.append(Planted(kind=kind, path=stray if kind == "stray" else path))
    return planted


def _share(free: list[T], rate: float, total: int) -> list[T]:
    """Take a share of `total` out of `free`."""
    return [free.pop() for _ in range(min(_wanted(rate, total), len(free)))]


def _wanted(rate: float, total: int) -> int:
    """A share of `total`: at least one, unless the rate is 0."""
    return max(1, round(rate * total)) if rate else 0
