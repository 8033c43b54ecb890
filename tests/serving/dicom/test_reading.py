import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from bonexray.images import Pixels, fit, letterbox
from serving.dicom import frame
from serving.dicom.frame import DECODERS
from serving.dicom.reading import is_dicom, read_dicom
from tests.serving.dicom.files import (
    LOSSLESS,
    LOSSY,
    NATIVE,
    SYNTAXES,
    dicom,
    greys,
    header,
    radiograph,
    relabelled,
    written,
)

SIZE = 96
PACKAGED = Path(pydicom.__file__).parent / "data" / "test_files"


def square(data: bytes, size: int = SIZE) -> Pixels:
    return letterbox(fit(read_dicom(data, size).grey, size), size)


def test_a_file_is_read_as_the_view_that_its_header_describes() -> None:
    view = read_dicom(dicom(radiograph()), SIZE)
    assert view.grey.mode == "L"
    assert view.grey.size == (80, 96)
    assert view.claimed_part == "XR_WRIST"
    assert view.instance_uid == "1.2.3.4"
    assert not view.without_window


def test_only_bytes_with_a_preamble_are_a_dicom_file() -> None:
    assert is_dicom(dicom(radiograph()))
    for data in (b"", b"DICM", bytes(132), b"\x89PNG" + bytes(200), dicom(radiograph())[128:]):
        assert not is_dicom(data)


@pytest.mark.parametrize("syntax", [*NATIVE, DeflatedExplicitVRLittleEndian, *LOSSLESS])
def test_every_lossless_syntax_gives_the_same_pixels(syntax: str) -> None:
    pixels = radiograph(95, 81)  # odd, for what halves and pads
    expected = greys(read_dicom(dicom(pixels), SIZE).grey)
    np.testing.assert_array_equal(greys(read_dicom(dicom(pixels, syntax), SIZE).grey), expected)


@pytest.mark.parametrize("syntax", [*NATIVE, DeflatedExplicitVRLittleEndian, *LOSSLESS])
def test_every_lossless_syntax_gives_the_same_pixels_of_8_bits(syntax: str) -> None:
    pixels = (radiograph(95, 81) >> 4).astype(np.uint8)
    expected = greys(Image.fromarray(pixels))  # its window is the whole range
    view = read_dicom(dicom(pixels, syntax, WindowCenter=127.5, WindowWidth=256), SIZE)
    np.testing.assert_allclose(greys(view.grey), expected, rtol=0, atol=1)


@pytest.mark.parametrize("syntax", LOSSY)
def test_every_lossy_syntax_gives_nearly_the_same_pixels(syntax: str) -> None:
    pixels = radiograph()
    if syntax == JPEGBaseline8Bit:
        pixels = (pixels >> 4).astype(np.uint8)
    difference = square(dicom(pixels, syntax)).astype(int) - square(dicom(pixels))
    assert np.abs(difference).max() <= 6
    assert np.abs(difference).mean() < 1


def test_8_bits_in_words_of_a_big_endian_file_are_put_in_order() -> None:
    pixels = (radiograph(95, 81) >> 4).astype(np.uint8)
    expected = greys(read_dicom(dicom(pixels), SIZE).grey)
    for vr in ("OB", "OW"):
        data = dicom(pixels, ExplicitVRBigEndian, vr=vr)
        np.testing.assert_array_equal(greys(read_dicom(data, SIZE).grey), expected)


@pytest.mark.parametrize("shift", [1, 4])
@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless])
def test_values_that_lie_higher_in_their_words_are_the_same(shift: int, syntax: str) -> None:
    pixels = radiograph()
    high = (pixels << shift).astype(np.uint16)
    high |= 0x8000 if shift == 1 else 3  # an overlay, or rubbish, in bits that are not the value's
    data = dicom(high, syntax, HighBit=11 + shift)
    np.testing.assert_array_equal(
        greys(read_dicom(data, SIZE).grey), greys(read_dicom(dicom(pixels), SIZE).grey)
    )


@pytest.mark.parametrize("bits", [8, 10, 14, 16])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless])
def test_every_depth_shows_the_same_grey(bits: int, syntax: str) -> None:
    pixels = (radiograph(top=255).astype(np.uint32) << (bits - 8)).astype(np.uint16)
    encoded = {
        JPEGLSLossless: lambda: bytes(imagecodecs.jpegls_encode(pixels)),
        JPEG2000Lossless: lambda: bytes(
            imagecodecs.jpeg2k_encode(
                pixels, codecformat="j2k", bitspersample=bits, reversible=True, level=0
            )
        ),
    }.get(syntax, lambda: None)()
    window = {"WindowCenter": 100 << (bits - 8), "WindowWidth": 150 << (bits - 8)}
    values = {"VOILUTFunction": "LINEAR_EXACT", "BitsStored": bits, "HighBit": bits - 1}
    shallow = dicom(
        radiograph(top=255).astype(np.uint8),
        WindowCenter=100,
        WindowWidth=150,
        VOILUTFunction="LINEAR_EXACT",
    )
    np.testing.assert_array_equal(
        greys(read_dicom(dicom(pixels, syntax, encoded, **values, **window), SIZE).grey),
        greys(read_dicom(shallow, SIZE).grey),
    )


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEGLSLossless, JPEGLosslessSV1])
def test_signed_values_show_the_same_grey_as_unsigned_ones(syntax: str) -> None:
    pixels = radiograph()
    signed = (pixels.astype(np.int64) - 2048).astype(np.int16)
    # A codec of unsigned samples holds the 12 bits of a signed value.
    stored = signed if syntax in NATIVE else (signed & 0xFFF).astype(np.uint16)
    data = dicom(stored, syntax, PixelRepresentation=1, WindowCenter=2000 - 2048)
    np.testing.assert_array_equal(
        greys(read_dicom(data, SIZE).grey), greys(read_dicom(dicom(pixels), SIZE).grey)
    )


def test_jpeg2000_may_be_signed_itself() -> None:
    pixels = radiograph()
    signed = (pixels.astype(np.int64) - 2048).astype(np.int16)
    encoded = bytes(
        imagecodecs.jpeg2k_encode(
            signed, codecformat="j2k", bitspersample=12, reversible=True, level=0
        )
    )
    data = dicom(signed, JPEG2000Lossless, encoded, WindowCenter=2000 - 2048)
    np.testing.assert_array_equal(
        greys(read_dicom(data, SIZE).grey), greys(read_dicom(dicom(pixels), SIZE).grey)
    )


@pytest.mark.parametrize(("height", "width"), [(1000, 799), (801, 1003), (998, 1001)])
def test_skipped_detail_does_not_change_what_the_network_reads(height: int, width: int) -> None:
    pixels = radiograph(height, width)
    halved = dicom(pixels, JPEG2000Lossless)
    view = read_dicom(halved, SIZE)
    assert view.grey.size == (width, height)
    assert np.ptp(greys(view.grey) - greys(read_dicom(dicom(pixels), SIZE).grey)) > 2  # skipped
    difference = square(halved).astype(int) - square(dicom(pixels))
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("values", [{"PixelPaddingValue": 0}, {"WindowCenter": None}])
def test_no_detail_is_skipped_beside_padding_and_without_a_window(values: dict[str, Any]) -> None:
    pixels = radiograph(1000, 800)
    pixels[:300] = 0
    np.testing.assert_array_equal(
        greys(read_dicom(dicom(pixels, JPEG2000Lossless, **values), SIZE).grey),
        greys(read_dicom(dicom(pixels, **values), SIZE).grey),
    )


def test_a_frame_may_lie_in_several_fragments() -> None:
    pixels = radiograph()
    dataset = dcmread(io.BytesIO(dicom(pixels, JPEGLossless)))
    encoded = LOSSLESS[JPEGLossless](pixels)
    dataset.PixelData = encapsulate([encoded], fragments_per_frame=5)
    dataset["PixelData"].is_undefined_length = True
    np.testing.assert_array_equal(
        greys(read_dicom(written(dataset, JPEGLossless), SIZE).grey),
        greys(read_dicom(dicom(pixels), SIZE).grey),
    )


def test_sequences_and_icons_before_the_pixels_are_stepped_over() -> None:
    pixels = radiograph()
    dataset = dcmread(io.BytesIO(dicom(pixels)))
    icon = header(np.zeros((4, 4), np.uint8))
    icon.PixelData = bytes(16)
    for undefined in (False, True):
        nested = Dataset()
        nested.ReferencedImageSequence = [icon, icon]
        dataset.IconImageSequence = [nested]
        dataset["IconImageSequence"].is_undefined_length = undefined
        nested["ReferencedImageSequence"].is_undefined_length = undefined
        for syntax in NATIVE[:2]:
            np.testing.assert_array_equal(
                greys(read_dicom(written(dataset, syntax), SIZE).grey),
                greys(read_dicom(dicom(pixels), SIZE).grey),
            )


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
    ],
)
def test_a_writer_that_says_the_wrong_vr_encoding_is_read(said: UID, meant: UID) -> None:
    data = dicom(radiograph(), meant)
    wrong = relabelled(data, said)
    np.testing.assert_array_equal(
        greys(read_dicom(wrong, SIZE).grey), greys(read_dicom(data, SIZE).grey)
    )


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_padded.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("JPGExtended.dcm", "JPEG-lossy.dcm"),
    ],
)
def test_files_of_other_writers_show_the_same_grey(name: str, same_as: str) -> None:
    def grey(file: str) -> Image.Image:
        dataset = dcmread(PACKAGED / file)
        dataset.Modality = "DX"
        return read_dicom(written(dataset, dataset.file_meta.TransferSyntaxUID), SIZE).grey

    if not (PACKAGED / name).exists():
        pytest.skip("pydicom came without its test files")
    assert np.ptp(greys(grey(same_as))) > 100
    np.testing.assert_array_equal(greys(grey(name)), greys(grey(same_as)))


def test_the_tests_know_every_syntax_that_is_read() -> None:
    assert set(SYNTAXES) == {*DECODERS, *frame.NATIVE}
