"""DICOM files as small as they can be, and the pixels in them."""

import io
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from bonexray.errors import ImageError
from serving.dicom.reading import DicomView, read_dicom
from serving.dicom.refusal import ViewRefusedError

Pixels = npt.NDArray[Any]
BITS = 12

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def _jpeg(pixels: Pixels, **settings: Any) -> bytes:
    bits = 8 if pixels.itemsize == 1 else BITS
    return bytes(imagecodecs.jpeg8_encode(pixels, bitspersample=bits, **settings))


def _j2k(pixels: Pixels, **settings: Any) -> bytes:
    bits = 8 if pixels.itemsize == 1 else BITS
    return bytes(
        imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", bitspersample=bits, **settings)
    )


def _rle(pixels: Pixels) -> bytes:
    rows, columns = pixels.shape
    return bytes(
        get_encoder(RLELossless).encode(
            pixels,
            rows=rows,
            columns=columns,
            number_of_frames=1,
            samples_per_pixel=1,
            bits_allocated=8 * pixels.itemsize,
            bits_stored=8 * pixels.itemsize,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )
    )


LOSSLESS: dict[str, Callable[[Pixels], bytes]] = {
    RLELossless: _rle,
    JPEGLossless: lambda pixels: _jpeg(pixels, lossless=True, predictor=6),
    JPEGLosslessSV1: lambda pixels: _jpeg(pixels, lossless=True, predictor=1),
    JPEGLSLossless: lambda pixels: bytes(imagecodecs.jpegls_encode(pixels)),
    JPEG2000Lossless: lambda pixels: _j2k(pixels, reversible=True, level=0),
    HTJ2KLossless: lambda pixels: bytes(imagecodecs.htj2k_encode(pixels, reversible=True)),
    HTJ2KLosslessRPCL: lambda pixels: bytes(imagecodecs.htj2k_encode(pixels, reversible=True)),
}
LOSSY: dict[str, Callable[[Pixels], bytes]] = {
    JPEGBaseline8Bit: lambda pixels: _jpeg(pixels, level=95),  # of 8-bit pixels
    JPEGExtended12Bit: lambda pixels: _jpeg(pixels, level=95),
    JPEGLSNearLossless: lambda pixels: bytes(imagecodecs.jpegls_encode(pixels, level=2)),
    JPEG2000: lambda pixels: _j2k(pixels, reversible=False, level=60),
    HTJ2K: lambda pixels: bytes(imagecodecs.htj2k_encode(pixels, reversible=False, level=0.0005)),
}
ENCODERS = LOSSLESS | LOSSY


def header(pixels: Pixels, **values: Any) -> Dataset:
    """A wrist as a digital detector sends it; a value of None leaves its attribute out."""
    said = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3.4",
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
        "BodyPartExamined": "WRIST",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 if pixels.itemsize == 1 else BITS,
        "HighBit": 7 if pixels.itemsize == 1 else BITS - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "WindowCenter": 128 if pixels.itemsize == 1 else 2000,
        "WindowWidth": 256 if pixels.itemsize == 1 else 3000,
    }
    dataset = Dataset()
    for keyword, value in (said | values).items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def dicom(
    pixels: Pixels,
    syntax: str = ExplicitVRLittleEndian,
    frame: bytes | None = None,
    vr: str | None = None,
    **values: Any,
) -> bytes:
    """A file of `pixels` in a transfer syntax.

    Args:
        pixels: (H, W) of one or two bytes.
        syntax: how they are encoded.
        frame: what stands in place of the encoded pixels.
        vr: of the pixel data that are not encapsulated.
        values: attributes of the header, by keyword.
    """
    dataset = header(pixels, **values)
    if syntax in ENCODERS:
        dataset.PixelData = encapsulate([ENCODERS[syntax](pixels) if frame is None else frame])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
    else:
        big = syntax == ExplicitVRBigEndian
        words = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
        words += b"\0" * (len(words) % 2)
        if big and pixels.itemsize == 1 and vr == "OW":
            words = np.frombuffer(words, "<u2").astype(">u2").tobytes()
        dataset.PixelData = words if frame is None else frame
        dataset["PixelData"].VR = vr or ("OB" if pixels.itemsize == 1 else "OW")
    return written(dataset, syntax)


def written(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The bytes of a data set's file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    dataset.file_meta.ImplementationClassUID = UID("1.2.3")
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def relabelled(data: bytes, syntax: str) -> bytes:
    """The file with another TransferSyntaxUID, and nothing else changed."""
    at = data.index(b"\x02\0\x10\0UI") + 6
    end = at + 2 + int.from_bytes(data[at : at + 2], "little")
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return data[:at] + len(uid).to_bytes(2, "little") + uid + data[end:]


def radiograph(height: int = 96, width: int = 80, top: int = 4000) -> npt.NDArray[np.uint16]:
    """A smooth bone on a dark ground, with a detector's noise: (H, W), 0 to `top`."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    bone = np.exp(-((x + 0.2 * y) ** 2) * 12) * (1 - 0.4 * np.exp(-(y**2) * 30))
    noise = np.random.default_rng(5).normal(0, 0.005, bone.shape)
    pixels: npt.NDArray[np.uint16] = np.clip((0.1 + 0.8 * bone + noise) * top, 0, top).astype("u2")
    return pixels


def greys(image: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


SYNTAXES = (*NATIVE, DeflatedExplicitVRLittleEndian, *ENCODERS)


def small(syntax: str = ExplicitVRLittleEndian) -> Pixels:
    """A radiograph of 24 x 20 pixels, of the depth that a syntax takes."""
    pixels = radiograph(24, 20)
    return (pixels >> 4).astype(np.uint8) if syntax == JPEGBaseline8Bit else pixels


def with_elements(elements: bytes) -> bytes:
    """A small file in explicit VR with some more elements before its pixels."""
    data = dicom(small())
    at = data.index(b"\x28\0\x02\0")
    return data[:at] + elements + data[at:]


UNDEFINED = b"\xff\xff\xff\xff"
ITEM = b"\xfe\xff\x00\xe0"
ITEM_END, SEQUENCE_END = b"\xfe\xff\x0d\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)


def outcome(data: bytes, size: int = 32) -> DicomView | str:
    """The view, or why there is none; any other error is raised."""
    try:
        return read_dicom(data, size)
    except (ImageError, ViewRefusedError) as error:
        return str(error)
