"""What a DICOM header says of its image, each value checked before it is used.

Knows no pixels and no clinical meaning; messages name an attribute, never what a file says in it.
"""

import logging
import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_dataset

from bonexray.errors import ImageError, TooManyPixelsError
from bonexray.images import MAX_PIXELS
from serving.dicom.elements import PIXEL_DATA, Element, Encoding, walk
from serving.dicom.refusal import ViewRefusedError

# pydicom's remarks on a value may repeat it, and it may be a patient's.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")

_KEYWORDS = """
    SOPClassUID SOPInstanceUID StudyInstanceUID Modality PresentationIntentType BodyPartExamined
    AnatomicRegionSequence SamplesPerPixel PhotometricInterpretation NumberOfFrames Rows Columns
    BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit
    BurnedInAnnotation WindowCenter WindowWidth VOILUTFunction RescaleIntercept RescaleSlope
    ModalityLUTSequence VOILUTSequence PresentationLUTShape
"""
_TAGS = frozenset(tag_for_keyword(keyword) for keyword in _KEYWORDS.split())
_MAX_HEADER_BYTES = 1 << 20
"""Of these attributes. The longest are lookup tables, of at most 128 KiB each."""
_MAX_ITEMS = 1000
_UID = re.compile(r"[0-9.]{1,64}")

# Plain radiography: computed, digital, film scanned by a digitizer, and the still images of a
# fluoroscopy room. Not angiography (XA), whose vessels are filled, nor OT and SC, which say of no
# image that it is a radiograph.
_RADIOGRAPHY = ("CR", "DX", "RG", "RF")
_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"


@dataclass(frozen=True, kw_only=True)
class PixelLayout:
    """How the stored values of one frame lie in their words (PS3.5 section 8)."""

    rows: int
    columns: int
    word_bits: int
    """BitsAllocated: 8 or 16."""
    bits: int
    """BitsStored: 6 to 16."""
    high_bit: int
    """Of the word, the most significant that is the value's."""
    signed: bool

    @property
    def num_bytes(self) -> int:
        """What a frame takes where it is not compressed."""
        return self.rows * self.columns * self.word_bits // 8


def parse_header(data: bytes, at: int, encoding: Encoding) -> tuple[Dataset, Element | None]:
    """The attributes that are used of the data set from `at` on, and where its pixels lie.

    Raises:
        ImageError: the bytes are no data set, or one beyond `elements.walk`'s limits.
    """
    kept, pixels = bytearray(), None
    for element in walk(data, at, encoding):
        if element.tag == PIXEL_DATA:
            pixels = element
        elif element.tag in _TAGS:
            if len(kept) + element.end - element.start > _MAX_HEADER_BYTES:
                raise ImageError(f"a DICOM header of more than {_MAX_HEADER_BYTES:,} bytes")
            kept += data[element.start : element.end]
    item = b"\xfe\xff\x00\xe0" if encoding.little else b"\xff\xfe\xe0\x00"
    if kept.count(item) > _MAX_ITEMS:
        raise ImageError(f"more than {_MAX_ITEMS:,} items in DICOM sequences")
    header = read_dataset(BytesIO(kept), encoding.implicit, encoding.little)
    header.set_original_encoding(encoding.implicit, encoding.little)
    return header, pixels


def refuse_other_use(header: Dataset, pixels: Element | None) -> None:
    """Let through one grey radiograph that is made to be looked at.

    Raises:
        ViewRefusedError: the header says that it is something else.
        ImageError: NumberOfFrames or SamplesPerPixel is no number.
    """
    modality = text(header, "Modality")
    if modality and modality not in _RADIOGRAPHY:
        raise ViewRefusedError("not_a_radiograph")
    intent = text(header, "PresentationIntentType")
    if intent == "FOR PROCESSING" or text(header, "SOPClassUID") == _FOR_PROCESSING:
        raise ViewRefusedError("for_processing")
    if pixels is None:
        raise ViewRefusedError("no_pixels")
    if number(header, "NumberOfFrames", range(1 << 31), 1) > 1:
        raise ViewRefusedError("multi_frame")
    grey = text(header, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    if number(header, "SamplesPerPixel", range(1 << 16), 1) != 1 or not grey:
        raise ViewRefusedError("colour")
    if text(header, "BurnedInAnnotation") == "YES":
        raise ViewRefusedError("burned_in_text")


def pixel_layout(header: Dataset) -> PixelLayout:
    """The layout of the frame.

    Raises:
        ViewRefusedError: its values have a depth that is not read here.
        TooManyPixelsError: it has more than MAX_PIXELS.
        ImageError: a number is missing or impossible.
    """
    rows = number(header, "Rows", range(1, 1 << 16))
    columns = number(header, "Columns", range(1, 1 << 16))
    if rows * columns > MAX_PIXELS:
        raise TooManyPixelsError(f"{columns} x {rows} pixels, expected at most {MAX_PIXELS:,}")
    word_bits = number(header, "BitsAllocated", range(1, 1 << 16))
    bits = number(header, "BitsStored", range(1, word_bits + 1))
    if word_bits not in (8, 16) or bits < 6:
        raise ViewRefusedError("unsupported_depth")
    return PixelLayout(
        rows=rows,
        columns=columns,
        word_bits=word_bits,
        bits=bits,
        high_bit=number(header, "HighBit", range(bits - 1, word_bits), bits - 1),
        signed=number(header, "PixelRepresentation", range(2), 0) == 1,
    )


def instance_uid(header: Dataset) -> str:
    """The image's SOPInstanceUID. Raises ImageError when it has none."""
    uid = text(header, "SOPInstanceUID")
    if _UID.fullmatch(uid) is None:
        raise ImageError("SOPInstanceUID: expected a UID")
    return uid


def study_uid(header: Dataset) -> str:
    """The StudyInstanceUID; "" without one."""
    uid = text(header, "StudyInstanceUID")
    return uid if _UID.fullmatch(uid) else ""


def text(header: Dataset, keyword: str) -> str:
    """An attribute's only or first value, in upper case without its padding; "" without one."""
    return str(_first(header, keyword)).strip("\0 ").upper()


def number(header: Dataset, keyword: str, allowed: range, default: int | None = None) -> int:
    """An attribute's whole number.

    Raises:
        ImageError: it is none of `allowed`, or missing where there is no default.
    """
    value = _first(header, keyword)
    if value == "" and default is not None:
        return default
    # A range looks up a plain int at once, and walks along itself for pydicom's own kind.
    if not isinstance(value, int) or int(value) not in allowed:
        raise ImageError(f"{keyword}: expected a number from {allowed.start} to {allowed.stop - 1}")
    return int(value)


def decimal(header: Dataset, keyword: str) -> float | None:
    """An attribute's first decimal number; None without one. Raises ImageError when it is none."""
    value = _first(header, keyword)
    if value == "":
        return None
    try:
        found = float(str(value))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ImageError(f"{keyword}: expected a decimal number")
    return found


def _first(header: Dataset, keyword: str) -> object:
    value = header.get(keyword)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        value = next(iter(value), None)
    return "" if value is None else value
