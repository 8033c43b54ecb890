from typing import Any, get_args

import pytest
from pydicom.uid import JPEGLSLossless

from serving.dicom.reading import read_dicom
from serving.dicom.refusal import DicomRefusal, ViewRefusedError
from tests.serving.dicom.files import dicom, header, radiograph, relabelled, written

SIZE = 96

REFUSED: dict[DicomRefusal, list[dict[str, Any]]] = {
    "not_a_radiograph": [{"Modality": other} for other in ("CT", "MG", "XA", "OT", "SR", "US")],
    "for_processing": [
        {"PresentationIntentType": "FOR PROCESSING"},
        {"PresentationIntentType": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"},
    ],
    "multi_frame": [{"NumberOfFrames": 2}, {"NumberOfFrames": 2_000_000_000}],
    "colour": [
        {"SamplesPerPixel": 3},
        {"PhotometricInterpretation": "RGB"},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": None},
    ],
    "burned_in_text": [{"BurnedInAnnotation": "YES"}],
    "unsupported_depth": [
        {"BitsAllocated": 32},
        {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
        {"BitsStored": 4, "HighBit": 3},
    ],
}


@pytest.mark.parametrize(
    ("code", "values"), [(code, values) for code, all_ in REFUSED.items() for values in all_]
)
def test_a_file_outside_of_the_intended_use_is_refused_with_its_reason(
    code: DicomRefusal, values: dict[str, Any]
) -> None:
    with pytest.raises(ViewRefusedError) as refused:
        read_dicom(dicom(radiograph(), **values), SIZE)
    assert refused.value.code == code
    assert "\n" not in str(refused.value)


def test_a_document_is_refused_for_its_missing_pixels() -> None:
    dataset = header(radiograph())
    with pytest.raises(ViewRefusedError) as refused:
        read_dicom(written(dataset), SIZE)
    assert refused.value.code == "no_pixels"


@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2.4.100",  # MPEG-2
        "1.2.840.10008.1.2.4.92",  # JPEG 2000, several components
        "1.2.840.10008.1.2.4.110",  # JPEG XL
        "1.2.840.10008.1.2.4.95",  # JPIP, deflated
        "1.2.840.10008.1.2.8.1",  # a deflated frame
        "1.2.3",
    ],
)
def test_a_syntax_that_is_not_decoded_is_refused(syntax: str) -> None:
    data = relabelled(dicom(radiograph(), JPEGLSLossless), syntax)
    with pytest.raises(ViewRefusedError) as refused:
        read_dicom(data, SIZE)
    assert refused.value.code == "unsupported_syntax"


def test_every_reason_for_refusal_is_tested() -> None:
    assert {*REFUSED, "no_pixels", "unsupported_syntax"} == set(get_args(DicomRefusal))


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "RF", "cr", None])
def test_a_plain_radiograph_of_any_device_is_read(modality: str | None) -> None:
    assert read_dicom(dicom(radiograph(), Modality=modality), SIZE).claimed_part == "XR_WRIST"
