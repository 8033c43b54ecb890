"""Whatever the bytes: a view, a refusal or an ImageError, and never what they say."""

import struct

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from bonexray.errors import ImageError
from serving.dicom.reading import DicomView, read_dicom
from serving.dicom.refusal import ViewRefusedError
from tests.serving.dicom.files import (
    ENCODERS,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    SYNTAXES,
    UNDEFINED,
    dicom,
    header,
    outcome,
    small,
    with_elements,
    written,
)

SIZE = 32
FILES = [dicom(small(syntax), syntax) for syntax in SYNTAXES]


@st.composite
def mutated(draw: st.DrawFn, files: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        new = draw(st.one_of(st.binary(max_size=6), st.sampled_from([UNDEFINED, bytes(4)])))
        data[at : at + draw(st.integers(0, 6))] = new
    return bytes(data[: draw(st.integers(len(data) // 2, len(data) + 200))])


_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=_QUIET)
@given(mutated(FILES))
def test_changed_bytes_are_read_or_refused(data: bytes) -> None:
    assert isinstance(outcome(data), DicomView | str)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=5000, suppress_health_check=_QUIET)
@given(mutated(FILES))
def test_many_changed_bytes_are_read_or_refused(data: bytes) -> None:
    assert isinstance(outcome(data), DicomView | str)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=400))
@example(b"\x02\x00\x10\x00UI\x00\x00")
def test_any_bytes_behind_the_preamble_are_refused(data: bytes) -> None:
    assert isinstance(outcome(bytes(128) + b"DICM" + data), str)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_cut_anywhere_is_refused(syntax: str) -> None:
    data = dicom(small(syntax), syntax)
    for end in range(0, len(data) - 8, 29):
        assert isinstance(outcome(data[:end]), str), end


@pytest.mark.parametrize("syntax", ENCODERS)
def test_a_frame_cut_anywhere_is_refused(syntax: str) -> None:
    pixels = small(syntax)
    frame = ENCODERS[syntax](pixels)
    for end in range(2, len(frame) - 4, 23):
        with pytest.raises(ImageError, match="PixelData"):
            read_dicom(dicom(pixels, syntax, frame[:end]), SIZE)


@pytest.mark.parametrize("syntax", ENCODERS)
def test_a_frame_of_another_size_than_the_header_says_is_refused(syntax: str) -> None:
    frame = ENCODERS[syntax](small(syntax))
    with pytest.raises(ImageError, match="PixelData"):
        read_dicom(dicom(small(syntax)[:-1], syntax, frame), SIZE)


def test_a_frame_in_colour_is_refused() -> None:
    colour = np.zeros((24, 20, 3), np.uint8)
    for syntax, frame in (
        (JPEGBaseline8Bit, imagecodecs.jpeg8_encode(colour)),
        (JPEG2000Lossless, imagecodecs.jpeg2k_encode(colour, codecformat="j2k")),
    ):
        with pytest.raises(ImageError, match="3 components"):
            read_dicom(dicom(colour[:, :, 0], syntax, bytes(frame)), SIZE)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Rows", 0),
        ("Rows", None),
        ("Columns", 0),
        ("Rows", 25),
        ("BitsAllocated", None),
        ("BitsStored", 17),
        ("BitsStored", 0),
        ("HighBit", 3),
        ("HighBit", 16),
        ("PixelRepresentation", 2),
        ("SOPInstanceUID", None),
        ("RescaleSlope", "inf"),
        ("WindowWidth", "nan"),
        ("WindowCenter", "wide"),
        ("NumberOfFrames", "some"),
    ],
)
def test_a_header_that_cannot_be_is_refused_by_the_attributes_name(
    keyword: str, value: object
) -> None:
    pixels = small(ExplicitVRLittleEndian)
    values = {} if keyword != "RescaleSlope" else {"RescaleIntercept": 0}
    valid = {"WindowWidth": "1234", "WindowCenter": "12345"}.get(keyword)
    if isinstance(value, str):  # pydicom writes none of these
        text = (valid or "1234").ljust(len(value) + len(value) % 2)
        written_as = dicom(pixels, **values, **{keyword: text})
        data = written_as.replace(text.encode(), value.encode().ljust(len(text)))
        with pytest.raises(ImageError):
            read_dicom(data, SIZE)
        return
    name = "PixelData" if value == 25 else keyword
    with pytest.raises(ImageError, match=name):
        read_dicom(dicom(pixels, **values, **{keyword: value}), SIZE)


def test_a_value_of_unknown_representation_holds_an_implicit_sequence() -> None:
    length = struct.pack("<I", 0x4241)  # AB, which an explicit reader takes for a VR
    element = b"\x08\0\x04\x01" + length + bytes(0x4241)
    inner = ITEM + struct.pack("<I", len(element)) + element
    nested = ITEM + UNDEFINED + element + ITEM_END
    for value in (inner, nested):
        unknown = b"\x09\0\x10\x10UN\0\0" + UNDEFINED + value + SEQUENCE_END
        within = b"\x08\0\x40\x11SQ\0\0" + UNDEFINED + ITEM + UNDEFINED + unknown
        assert isinstance(outcome(with_elements(unknown)), DicomView)
        assert isinstance(outcome(with_elements(within + ITEM_END + SEQUENCE_END)), DicomView)


def test_messages_never_repeat_what_a_file_says() -> None:
    secret = b"Doe^Jane"
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian):
        data = dicom(small(syntax), syntax, BodyPartExamined="Doe^Jane", Modality="DX")
        for at in range(132, len(data) - 1000, 5):
            found = outcome(data[:at] + secret + data[at + 8 :])
            assert not isinstance(found, str) or not ("Doe" in found or "Jane" in found)


def test_pydicoms_remarks_reach_no_log(caplog: pytest.LogCaptureFixture) -> None:
    data = dicom(small(), WindowCenter="1234")
    outcome(data.replace(b"1234", b"Doe^"))
    outcome(data.replace(b"1.2.3.4", b"Doe^Jan"))
    assert caplog.text == ""


def test_an_image_in_a_sequence_is_not_the_files() -> None:
    icon = Dataset()
    icon.PixelData = bytes(16)
    icon["PixelData"].VR = "OB"
    dataset = header(small())
    dataset.IconImageSequence = [icon]
    with pytest.raises(ViewRefusedError, match="PixelData"):
        read_dicom(written(dataset), SIZE)
