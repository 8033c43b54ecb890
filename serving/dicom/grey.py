"""Stored values -> the grey that a reader sees: modality LUT, VOI LUT, presentation (PS3.3 C.11).

All of it looks at one pixel at a time, so it is computed once for every word that there can be, and
the frame is looked up in that table. N: the number of words, 256 or 65,536.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.processing import apply_windowing

from bonexray.errors import ImageError
from serving.dicom.frame import Frame, as_stored
from serving.dicom.header import decimal, text

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_WINDOW_FUNCTIONS = ("", "LINEAR", "LINEAR_EXACT", "SIGMOID")
_FALLBACK_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class _LookupTable:
    """An item of ModalityLUTSequence or VOILUTSequence (PS3.3 C.11.1.1)."""

    entries: npt.NDArray[np.uint16]
    first: int
    """The value that the first entry is for; what is below has it too."""
    bits: int
    """Of an entry."""

    def of(self, values: Floats) -> Floats:
        """The entries for `values`, in any shape."""
        places = np.clip(values - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return self.entries[places].astype(np.float64)


def says_window(header: Dataset) -> bool:
    """Whether the header says which values are shown: a lookup table, or a window of some width."""
    return _has_item(header, "VOILUTSequence") or _window(header) is not None


def says_padding(header: Dataset) -> bool:
    """Whether some stored values stand for no image at all."""
    return _integers(header, "PixelPaddingValue") != []


def grey_of(frame: Frame, header: Dataset) -> npt.NDArray[np.uint8]:
    """The frame as a reader sees it: (H, W) grey, bone bright, padding black.

    Where the header says no window, grey spreads over the 1st to 99th percentile of the values.

    Raises:
        ImageError: a number or a lookup table of the header cannot be used.
    """
    stored = frame.stored_values()  # (N,)
    padding = _is_padding(stored, frame, header)
    with np.errstate(all="ignore"):
        values = np.nan_to_num(_modality(stored.astype(np.float64), header))
        if says_window(header):
            shown = _through_window(values, header)
        else:
            counts = np.bincount(frame.words.ravel(), minlength=len(stored))
            shown = _spread(values, np.where(padding, 0, counts))
        shown = np.nan_to_num(shown)
    mono1 = text(header, "PhotometricInterpretation") == "MONOCHROME1"
    # Where both are said, as in DX, they say the same: one inversion.
    if mono1 or text(header, "PresentationLUTShape") == "INVERSE":
        shown = 255 - shown
    table = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
    table[padding] = 0
    return np.take(table, frame.words)


def _modality(stored: Floats, header: Dataset) -> Floats:
    table = _item(header, "ModalityLUTSequence", stored)
    if table is not None:
        return table.of(stored)
    slope, intercept = decimal(header, "RescaleSlope"), decimal(header, "RescaleIntercept")
    return stored if slope is None or intercept is None else stored * slope + intercept


def _through_window(values: Floats, header: Dataset) -> Floats:
    table, window = _item(header, "VOILUTSequence", values), _window(header)
    if table is not None:
        return table.of(values) * (255 / ((1 << table.bits) - 1))
    assert window is not None
    return apply_windowing(values, window)


def _window(header: Dataset) -> Dataset | None:
    """The first window, in the terms of pydicom's windowing and of 8-bit grey."""
    centre, width = decimal(header, "WindowCenter"), decimal(header, "WindowWidth")
    function = text(header, "VOILUTFunction")
    least = 1 if function in ("", "LINEAR") else np.finfo(np.float64).tiny
    if centre is None or width is None or width < least or function not in _WINDOW_FUNCTIONS:
        return None
    window = Dataset()
    window.PhotometricInterpretation = "MONOCHROME2"
    window.BitsStored, window.PixelRepresentation = 8, 0
    window.VOILUTFunction = function or "LINEAR"
    window["WindowCenter"], window["WindowWidth"] = header["WindowCenter"], header["WindowWidth"]
    return window


def _spread(values: Floats, counts: Counts) -> Floats:
    """Grey over the middle of the values that occur, given how often each does."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    ranks = np.array(_FALLBACK_PERCENTILES) / 100 * max(int(reached[-1]) - 1, 0)
    low, high = values[
        order[np.searchsorted(reached, ranks, side="right").clip(0, len(values) - 1)]
    ]
    greys: Floats = (values - low) / max(high - low, np.finfo(np.float64).tiny) * 255
    return greys


def _is_padding(
    stored: npt.NDArray[np.int64], frame: Frame, header: Dataset
) -> npt.NDArray[np.bool_]:
    said = [*_integers(header, "PixelPaddingValue"), *_integers(header, "PixelPaddingRangeLimit")]
    if not says_padding(header):
        return np.zeros(len(stored), np.bool_)
    # Writers give a signed value the bits of an unsigned one, and the other way round.
    ends = as_stored(np.array(said, np.int64), frame.bits, frame.signed)
    inside: npt.NDArray[np.bool_] = (stored >= ends.min()) & (stored <= ends.max())
    return inside


def _has_item(header: Dataset, keyword: str) -> bool:
    items = header.get(keyword) or []
    return len(items) > 0 and "LUTDescriptor" in items[0] and "LUTData" in items[0]


def _item(header: Dataset, keyword: str, inputs: Floats) -> _LookupTable | None:
    """The first table of a sequence, which is for `inputs`; None where it has none."""
    if not _has_item(header, keyword):
        return None
    item = header[keyword][0]
    shape, data = _integers(item, "LUTDescriptor"), item["LUTData"].value
    if len(shape) != 3 or shape[2] not in range(8, 17):
        raise ImageError(f"{keyword}: LUTDescriptor, expected three numbers, the last 8 to 16")
    number, first, bits = shape[0] % (1 << 16) or 1 << 16, shape[1], shape[2]
    implicit, little = header.original_encoding
    if implicit and first >= 1 << 15 and inputs.min() < 0:
        first -= 1 << 16  # such a file does not say whether it is signed: its input does
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little else ">u2")
    else:
        words = np.array(_integers(item, "LUTData"), np.int64)
    words = words.astype("<u2")
    if bits == 8 and len(words) == (number + 1) // 2 < number:
        words = words.view(np.uint8).astype("<u2")  # two entries in a word
    if len(words) < number:
        raise ImageError(f"{keyword}: LUTData holds {len(words)} entries, expected {number}")
    return _LookupTable(entries=words[:number], first=first, bits=bits)


def _integers(dataset: Dataset, keyword: str) -> list[int]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, int | str | bytes) else list(value)
    if not all(isinstance(one, int) for one in values):
        raise ImageError(f"{keyword}: expected whole numbers")
    return [int(one) for one in values]
