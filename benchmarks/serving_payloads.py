"""The bodies and files of `benchmarks.serving_bombs`. Knows no server."""

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable

import grpc
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from serving.oip.json_form import HEADER_LENGTH
from serving.oip.messages import pb
from tests.serving.dicom.files import dicom, radiograph
from tests.small_bundle import draw_png

_MB = 10**6
Body = tuple[bytes, dict[str, str]]
"""With the headers that belong to it."""


def zeros_deflated(megabytes: int, before: bytes = b"", window: int = zlib.MAX_WBITS) -> bytes:
    """`before` and then zeros, a thousandth as long."""
    packer = zlib.compressobj(1, zlib.DEFLATED, window)
    pieces = [packer.compress(before), *(packer.compress(bytes(_MB)) for _ in range(megabytes))]
    return b"".join([*pieces, packer.flush()])


def deflated_dicom(element: bytes) -> bytes:
    """A file whose data set inflates to 512 MB within one element.

    Args:
        element: tag, VR and length of it, in explicit VR.
    """
    whole = dicom(radiograph(), DeflatedExplicitVRLittleEndian)
    # The meta group tells its own length: what follows it is deflated.
    end = 144 + struct.unpack_from("<I", whole, 140)[0]
    data_set = zlib.decompress(whole[end:], -zlib.MAX_WBITS)
    pixels = data_set.index(b"\xe0\x7f\x10\x00")
    return whole[:end] + zeros_deflated(512, data_set[:pixels] + element, -zlib.MAX_WBITS)


def _element(tag: bytes) -> bytes:
    return tag + b"OB\0\0" + struct.pack("<I", 512 * _MB)


def large_deflated_dicom() -> bytes:
    """Deflated pixels of as many rows and columns as the header can say."""
    return dicom(radiograph(), DeflatedExplicitVRLittleEndian, Rows=65535, Columns=65535)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(side_px: int, colour: int = 0, text_mb: int = 0, rows_mb: int = 0) -> bytes:
    """A black PNG of so many pixels, in bits of 8.

    Args:
        side_px: of the square.
        colour: type of PNG, 0 for grey, 6 for RGBA.
        text_mb: of a compressed comment.
        rows_mb: that it holds, whatever the pixels need.
    """
    size = struct.pack(">IIBBBBB", side_px, side_px, 8, colour, 0, 0, 0)
    comment = chunk(b"zTXt", b"Comment\0\0" + zeros_deflated(text_mb)) if text_mb else b""
    pixels = chunk(b"IDAT", zeros_deflated(rows_mb))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + comment + pixels + chunk(b"IEND", b"")


def jpeg(side_px: int) -> bytes:
    """A grey JPEG that says it has so many pixels a side, and holds few."""
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG")
    data = file.getvalue()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", side_px, side_px) + data[at + 4 :]


def j2k_dicom(side_px: int) -> bytes:
    """A codestream of JPEG 2000 that says it has so many pixels a side, as its header does."""
    whole = dicom(radiograph(64, 64), JPEG2000Lossless, Rows=side_px, Columns=side_px)
    said = struct.pack(">II", 64, 64)
    at = whole.index(b"\xff\x51") + 6
    assert whole[at : at + 8] == said
    size = struct.pack(">II", side_px, side_px)
    return whole[:at] + size + whole[at + 8 :]


def elements(raw: bytes, count: int) -> Body:
    """The bytes of a BYTES tensor as they are."""
    parameters = {"binary_data_size": len(raw)}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [count], "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + raw, {HEADER_LENGTH: str(len(head))}


def numbers(count: int) -> bytes:
    """As many as are parsed."""
    values = b",".join([b"1"] * count)
    shape = f'"datatype":"INT32","shape":[{count}]'.encode()
    return b'{"inputs":[{"name":"study",' + shape + b',"data":[' + values + b"]}]}"


VIEWS: dict[str, Callable[[], bytes]] = {
    "view": lambda: draw_png(90, noise=40),
    "deflated_header": lambda: deflated_dicom(_element(b"\x09\x00\x10\x10")),
    "deflated_pixels": lambda: deflated_dicom(_element(b"\xe0\x7f\x10\x00")),
    "deflated_65535": large_deflated_dicom,
    "dicom_65535": lambda: dicom(radiograph(), Rows=65535, Columns=65535),
    "j2k_65535": lambda: j2k_dicom(65535),
    "j2k_8000": lambda: j2k_dicom(8000),
    "png_65535": lambda: png(65535, rows_mb=4300),
    "png_8000": lambda: png(8000, rows_mb=65),
    "png_8000_rgba": lambda: png(8000, 6, rows_mb=257),
    "png_text": lambda: png(64, text_mb=512),
    "jpeg_65500": lambda: jpeg(65500),
    "jpeg_8000": lambda: jpeg(8000),
}
BODIES: dict[str, Callable[[], Body]] = {
    "gzip_body": lambda: (gzip.compress(bytes(256 * _MB), 1), {"Content-Encoding": "gzip"}),
    "body_200_mb": lambda: (bytes(200 * _MB), {}),
    "json_deep": lambda: (b'{"inputs":' + b"[" * 30 * _MB, {}),
    "json_deep_within_bounds": lambda: (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, {}),
    "json_wide": lambda: (b'{"inputs":[' + b"1," * 15 * _MB + b"1]}", {}),
    "json_million_lists": lambda: (b'{"inputs":[' + b"[]," * _MB + b"[]]}", {}),
    "json_commas_in_text": lambda: (b'{"id":"' + b"," * 30 * _MB + b'"}', {}),
    "json_numbers": lambda: (numbers(900_000), {}),
    "json_shape": lambda: (b'{"inputs":[{"shape":[' + b"1," * 900_000 + b"1]}]}", {}),
    "bytes_length_lies": lambda: elements(b"\xff\xff\xff\xff" + bytes(100), 1),
    "bytes_empty": lambda: elements(bytes(60 * _MB), 15 * _MB),
    "bytes_short": lambda: elements(b"\1\0\0\0a" * 12 * _MB, 1),
}


def over_grpc() -> dict[str, Callable[[], tuple[bytes, grpc.Compression]]]:
    """Messages, serialised, and how they are sent."""
    plain, packed = grpc.Compression.NoCompression, grpc.Compression.Gzip
    tensor = pb.ModelInferRequest.InferInputTensor
    many = tensor(name="image", datatype="BYTES", shape=[1])
    many.contents.bytes_contents.extend([b""] * 5 * _MB)

    def message(tensor: object, *raw: bytes) -> bytes:
        request = pb.ModelInferRequest(
            model_name="bonexray", inputs=[tensor], raw_input_contents=raw
        )
        return bytes(request.SerializeToString())

    plain_tensor = tensor(name="image", datatype="BYTES", shape=[1])
    return {
        "200_mb": lambda: (message(plain_tensor, bytes(200 * _MB)), plain),
        "gzip": lambda: (message(plain_tensor, bytes(512 * _MB)), packed),
        "gzip_within_bounds": lambda: (message(plain_tensor, bytes(60 * _MB)), packed),
        "bytes_empty": lambda: (message(plain_tensor, bytes(60 * _MB)), plain),
        "contents_empty": lambda: (message(many), plain),
    }
