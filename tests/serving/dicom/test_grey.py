import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian

from bonexray.errors import ImageError
from serving.dicom.reading import read_dicom
from tests.serving.dicom.files import BITS, NATIVE, dicom, greys, radiograph

SIZE = 96
RESCALE = {"RescaleSlope": "0.5", "RescaleIntercept": "-300"}


def table(entries: npt.NDArray[Any], first: int, bits: int, vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    words = entries.astype("<u2")
    item.add_new("LUTData", vr, words.tobytes() if vr == "OW" else words.tolist())
    return item


def curve(length: int, bits: int) -> npt.NDArray[np.uint16]:
    """A film's shoulder and toe."""
    x = np.linspace(-4, 4, length)
    return np.round((2**bits - 1) / (1 + np.exp(-x))).astype(np.uint16)


def reference(data: bytes) -> npt.NDArray[np.float64]:
    """The grey in [0, 255] that pydicom's own functions give, before it is rounded."""
    dataset = dcmread(io.BytesIO(data))
    values = apply_modality_lut(dataset.pixel_array, dataset)
    shown = apply_voi_lut(values, dataset).astype(np.float64)
    low, high = 0.0, 2.0**BITS - 1
    if dataset.PixelRepresentation == 1:
        low, high = -(2.0 ** (BITS - 1)), 2.0 ** (BITS - 1) - 1
    if "ModalityLUTSequence" in dataset:
        low, high = 0, 2.0 ** dataset.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    elif "RescaleSlope" in dataset:
        low, high = (end * dataset.RescaleSlope + dataset.RescaleIntercept for end in (low, high))
    if "VOILUTSequence" in dataset:
        low, high = 0, 2.0 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    grey = (shown - low) / (high - low) * 255
    return 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey


def read(data: bytes) -> npt.NDArray[np.int64]:
    return greys(read_dicom(data, SIZE).grey)


WINDOWS: dict[str, dict[str, Any]] = {
    "linear": {"VOILUTFunction": "LINEAR"},
    "linear, not said": {},
    "linear exact": {"VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"VOILUTFunction": "SIGMOID"},
    "the first of a list": {"WindowCenter": [1500, 300, 9], "WindowWidth": [900, 20, 5]},
    "narrow": {"WindowCenter": 1700.5, "WindowWidth": 1},
    "a rescale": RESCALE | {"WindowCenter": 500, "WindowWidth": 900},
    "a falling rescale": {"RescaleSlope": -1, "RescaleIntercept": 4095},
    "a table of 16 bits": {"VOILUTSequence": [table(curve(4096, 16), 0, 16)]},
    "a table of 12 bits": {"VOILUTSequence": [table(curve(3000, 12), 500, 12)]},
    "a table in words": {"VOILUTSequence": [table(curve(4096, 14), 0, 14, "OW")]},
    "a table of 8 bits": {
        "RescaleSlope": "0.0625",
        "RescaleIntercept": 0,
        "VOILUTSequence": [table(curve(256, 8), 0, 8)],
    },
    "a table below zero": RESCALE | {"VOILUTSequence": [table(curve(2300, 10), -250, 10)]},
    "two tables": {"VOILUTSequence": [table(curve(4096, 12), 0, 12), table(curve(9, 8), 0, 8)]},
    "a modality table": {
        "ModalityLUTSequence": [table(curve(4096, 16), 0, 16)],
        "RescaleSlope": None,
        "WindowCenter": 32768,
        "WindowWidth": 65536,
    },
}


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("window", WINDOWS)
def test_every_window_shows_what_pydicom_shows(window: str, photometric: str) -> None:
    values = WINDOWS[window] | {"PhotometricInterpretation": photometric}
    data = dicom(radiograph(), **values)
    expected = reference(data)
    assert np.ptp(expected) > 100
    np.testing.assert_allclose(read(data), expected, rtol=0, atol=0.5 + 1e-6)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("window", ["a table in words", "a table below zero", "sigmoid"])
def test_a_window_is_read_in_every_byte_order(window: str, syntax: str) -> None:
    values = dict(WINDOWS[window])
    if syntax == ExplicitVRBigEndian and window == "a table in words":
        item = Dataset()
        item.LUTDescriptor = [4096, 0, 14]
        item.add_new("LUTData", "OW", curve(4096, 14).astype(">u2").tobytes())
        values["VOILUTSequence"] = [item]
    np.testing.assert_array_equal(
        read(dicom(radiograph(), syntax, **values)), read(dicom(radiograph(), **WINDOWS[window]))
    )


@pytest.mark.parametrize("syntax", NATIVE)
def test_signed_values_are_shown_as_pydicom_shows_them(syntax: str) -> None:
    signed = (radiograph().astype(np.int64) - 2000).astype(np.int16)
    data = dicom(signed, syntax, WindowCenter=100, WindowWidth=2500)
    np.testing.assert_allclose(read(data), reference(data), rtol=0, atol=0.5 + 1e-6)


def test_a_table_of_8_bits_holds_beyond_its_ends() -> None:
    pixels = radiograph()  # where pydicom's own function runs over
    expected = curve(256, 8)[np.clip(pixels.astype(np.int64) - 1000, 0, 255)]
    data = dicom(pixels, VOILUTSequence=[table(curve(256, 8), 1000, 8)])
    np.testing.assert_array_equal(read(data), expected)


def test_a_table_of_two_entries_in_a_word_is_that_of_one_in_a_word() -> None:
    item = table(curve(256, 8), 1000, 8, "OW")
    packed = Dataset()
    packed.LUTDescriptor = item.LUTDescriptor
    packed.add_new("LUTData", "OW", curve(256, 8).astype(np.uint8).tobytes())
    one = read(dicom(radiograph(), VOILUTSequence=[item]))
    np.testing.assert_array_equal(read(dicom(radiograph(), VOILUTSequence=[packed])), one)


def test_monochrome1_shows_the_same_grey_as_monochrome2() -> None:
    pixels = radiograph()
    negative = 4095 - pixels
    window = {"WindowCenter": 2047.5, "WindowWidth": 3000, "VOILUTFunction": "LINEAR_EXACT"}
    np.testing.assert_allclose(
        read(dicom(negative, PhotometricInterpretation="MONOCHROME1", **window)),
        read(dicom(pixels, **window)),
        rtol=0,
        atol=1,  # halves are rounded to even
    )


def test_an_inverse_presentation_inverts_once_also_beside_monochrome1() -> None:
    pixels = radiograph()
    plain = read(dicom(pixels))
    inverse = read(dicom(pixels, PresentationLUTShape="INVERSE"))
    both = read(
        dicom(pixels, PresentationLUTShape="INVERSE", PhotometricInterpretation="MONOCHROME1")
    )
    np.testing.assert_allclose(inverse, 255 - plain, rtol=0, atol=1)
    np.testing.assert_array_equal(both, inverse)


def test_without_a_window_grey_spreads_over_the_values_percentiles() -> None:
    pixels = radiograph()
    view = read_dicom(dicom(pixels, WindowCenter=None, WindowWidth=None), SIZE)
    assert view.without_window
    low, high = np.percentile(pixels, [1, 99], method="lower")
    expected = np.clip((pixels.astype(float) - low) / (high - low) * 255, 0, 255)
    np.testing.assert_allclose(greys(view.grey), expected, rtol=0, atol=2)
    assert not read_dicom(dicom(pixels), SIZE).without_window


@pytest.mark.parametrize(
    "window",
    [
        {"WindowWidth": 0},
        {"WindowWidth": "0.5"},
        {"WindowWidth": -4, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowWidth": None},
        {"WindowCenter": ""},
        {"VOILUTFunction": "CUBIC"},
        {"WindowCenter": None, "VOILUTSequence": []},
    ],
)
def test_a_window_that_shows_nothing_is_none(window: dict[str, Any]) -> None:
    view = read_dicom(dicom(radiograph(), **window), SIZE)
    none = read_dicom(dicom(radiograph(), WindowCenter=None), SIZE)
    assert view.without_window
    np.testing.assert_array_equal(greys(view.grey), greys(none.grey))


def test_an_image_of_one_value_is_black_without_a_window() -> None:
    flat = np.full((8, 8), 700, np.uint16)
    assert read(dicom(flat, WindowCenter=None)).max() == 0


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("limit", [None, 4094])
def test_padding_is_black_and_does_not_move_the_grey_of_the_rest(
    photometric: str, limit: int | None
) -> None:
    inner = radiograph(top=3800)
    padded = np.full((200, 200), 4095, np.uint16)
    padded[:50] = 4095 if limit is None else 4094
    padded[60 : 60 + inner.shape[0], 60 : 60 + inner.shape[1]] = inner
    values = {"PhotometricInterpretation": photometric, "WindowCenter": None}
    said = values | {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": limit}
    shown = read(dicom(padded, **said))
    alone = read(dicom(inner, **values))
    np.testing.assert_array_equal(shown[60 : 60 + 96, 60 : 60 + 80], alone)
    shown[60 : 60 + 96, 60 : 60 + 80] = 0
    assert shown.max() == 0


def test_padding_of_a_signed_image_may_be_written_unsigned() -> None:
    signed = (radiograph().astype(np.int64) - 1900).astype(np.int16)
    signed[:10] = -2000
    data = dicom(signed, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=-2000)
    unsigned = data.replace(b"\x28\0\x20\x01SS", b"\x28\0\x20\x01US")
    assert data != unsigned
    np.testing.assert_array_equal(read(unsigned), read(data))


@pytest.mark.parametrize("syntax", NATIVE)
def test_padding_is_found_below_zero(syntax: str) -> None:
    signed = (radiograph().astype(np.int64) - 1900).astype(np.int16)
    signed[:10] = -2000
    data = dicom(signed, syntax, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    shown = read(data)
    assert shown[:10].max() == 0
    assert shown[10:].max() > 200


@pytest.mark.parametrize(
    "values",
    [
        {"VOILUTSequence": [table(curve(100, 12), 0, 12)], "cut": 100},
        {"VOILUTSequence": [table(curve(100, 12), 0, 20)]},
        {"VOILUTSequence": [table(curve(100, 12), 0, 7)]},
        {"ModalityLUTSequence": [table(curve(100, 12), 0, 0)]},
    ],
)
def test_a_table_that_is_not_what_it_says_is_refused(values: dict[str, Any]) -> None:
    if values.pop("cut", None):
        values["VOILUTSequence"][0].LUTDescriptor = [101, 0, 12]
    with pytest.raises(ImageError, match="LUTSequence: LUTD"):
        read_dicom(dicom(radiograph(), **values), SIZE)
