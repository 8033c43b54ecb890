import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bonexray.errors import ImageError
from bonexray.images import ImageSpec, fit, letterbox, normalise, open_image, read_square, to_grey


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def ramp(height: int = 40, width: int = 60) -> Image.Image:
    return Image.fromarray(np.linspace(0, 255, height * width).reshape(height, width).astype("u1"))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_every_png_mode_becomes_grey(mode: str) -> None:
    pixels = np.asarray(to_grey(open_image(encoded(ramp().convert(mode)))))
    assert pixels.shape == (40, 60)
    assert pixels.dtype == np.uint8
    if mode not in ("P", "1"):
        np.testing.assert_array_equal(pixels, np.asarray(ramp()))


def test_sixteen_bits_keep_their_upper_eight() -> None:
    deep = np.asarray(ramp()).astype("uint16") * 257
    np.testing.assert_array_equal(to_grey(open_image(encoded(Image.fromarray(deep)))), ramp())


def test_a_jpeg_is_read_too() -> None:
    assert open_image(encoded(ramp(), "JPEG")).size == (60, 40)


@pytest.mark.parametrize("data", [b"", b"not an image", b"GIF89a" + bytes(40), b"\x89PN"])
def test_bytes_of_another_format_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="neither PNG nor JPEG"):
        open_image(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_image_cut_short_is_refused(form: str) -> None:
    data = encoded(ramp(), form)
    with pytest.raises(ImageError, match="cannot be decoded"):
        open_image(data[: len(data) // 2])


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 65535, 65535, 8, 0, 0, 0, 0)

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)

    pixels = zlib.compress(bytes(1 << 20))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    with pytest.raises(ImageError, match="pixels"):
        open_image(bomb + chunk(b"IEND", b""))


def test_letterboxing_fits_the_long_side_and_centres_on_black() -> None:
    square = letterbox(fit(Image.new("L", (100, 50), 200), 64), 64)
    assert square.shape == (64, 64)
    np.testing.assert_array_equal(square[16:48], 200)
    np.testing.assert_array_equal(square[:16], 0)
    np.testing.assert_array_equal(square[48:], 0)


def test_letterboxing_keeps_a_sliver_at_least_one_pixel_wide() -> None:
    assert letterbox(fit(Image.new("L", (1000, 3), 9), 32), 32).max() == 9


def test_normalised_pixels_have_zero_mean_and_unit_deviation() -> None:
    squares = np.stack([read_square(encoded(ramp(64, 64)), 64)])
    spec = ImageSpec(size=64, mean=squares.mean() / 255, std=squares.std() / 255)
    values = normalise(squares, spec)
    assert values.shape == (1, 1, 64, 64)
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(0, abs=1e-5)
    assert values.std() == pytest.approx(1, abs=1e-5)


def test_a_chunk_that_pillow_trips_over_is_an_image_that_is_refused() -> None:
    png = encoded(ramp())
    body = b"iCCPk\0"  # a profile without its method
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    at = png.rindex(b"IEND") - 4
    with pytest.raises(ImageError, match="cannot be decoded"):
        open_image(png[:at] + chunk + png[at:])


def test_a_jpeg_that_goes_over_its_pixels_again_and_again_is_refused() -> None:
    file = io.BytesIO()
    ramp().save(file, "JPEG", progressive=True)
    jpeg = file.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    assert open_image(jpeg[:-2] + scan * 10 + jpeg[-2:]).mode == "L"
    with pytest.raises(ImageError, match="a JPEG of more than 100 scans"):
        open_image(jpeg[:-2] + scan * 100 + jpeg[-2:])
