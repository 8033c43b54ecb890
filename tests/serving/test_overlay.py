from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from bonexray.errors import ImageError
from serving.heatmap import draw_heatmap
from serving.overlay import MAX_PX, SHEET, lay_over, write_overlays
from tests.serving.dicom.files import dicom, radiograph
from tests.serving.test_answer_text import READING, view


def heatmap(cells, shape=(64, 48), size=64):
    return draw_heatmap(np.array(cells, np.float32), shape, size)


EVIDENCE = heatmap([[0, 0, 0, 0], [0, 8, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def grey_png(width, height):
    pixels = np.add.outer(np.arange(height), np.arange(width)) % 200
    file = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def written(folder, names, views, readings):
    study = READING.model_copy(update={"views": tuple(readings)})
    sheet = write_overlays(folder, names, views, study)
    assert sheet == folder / SHEET
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("heatmap", [b"junk", EVIDENCE[:60]], ids=["no picture", "cut short"])
def test_a_heatmap_that_is_no_picture_is_told(heatmap):
    with pytest.raises(ImageError, match="^view_heatmap of the answer: "):
        lay_over(Image.open(BytesIO(grey_png(48, 64))), heatmap)


def test_colours_lie_over_the_view_by_their_opacity():
    grey = Image.open(BytesIO(grey_png(48, 64)))
    over = np.asarray(Image.open(BytesIO(EVIDENCE))).astype(float)
    opacity = over[..., 3:] / 255
    expected = opacity * over[..., :3] + (1 - opacity) * np.asarray(grey)[..., None]
    assert np.abs(np.asarray(lay_over(grey, EVIDENCE)) - expected).max() <= 1


def test_a_view_without_evidence_stays_grey():
    grey = Image.open(BytesIO(grey_png(48, 64)))
    laid = np.asarray(lay_over(grey, heatmap(np.zeros((4, 4)))))
    assert (laid == np.asarray(grey)[..., None]).all()


def test_the_heatmap_is_where_the_evidence_is_at_the_views_own_size():
    black = Image.new("L", (480, 640))
    laid = np.asarray(lay_over(black, EVIDENCE)).astype(int)
    redness = laid[..., 0] - laid[..., 2]
    y, x = np.unravel_index(redness.argmax(), redness.shape)
    # The middle of cell (1, 1) of four, in the square of 640 that is centred on the view.
    assert (abs(y - 240), abs(x - 160)) <= (20, 20)
    assert redness[400:].max() == 0


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(48, 64, (48, 64)), (1800, 2400, (768, 1024))]
)
def test_a_picture_has_the_size_of_its_view_up_to_a_limit(tmp_path, width, height, expected):
    views = [grey_png(width, height)]
    written(tmp_path, ["a.png"], views, [view(heatmap=EVIDENCE)])
    with Image.open(tmp_path / "01-a.png") as picture:
        assert (picture.size, picture.mode) == (expected, "RGB")
        assert max(picture.size) <= MAX_PX


def test_files_of_one_stem_do_not_overwrite_each_other(tmp_path):
    names = ["a.png", "a.jpg", "IM1"]
    files = written(tmp_path / "new", names, [grey_png(48, 64)] * 3, [view(heatmap=EVIDENCE)] * 3)
    assert files == ["01-a.png", "02-a.png", "03-IM1.png", SHEET]


def test_a_dicom_file_is_shown_as_the_server_decodes_it(tmp_path):
    written(tmp_path, ["IM1"], [dicom(radiograph(96, 72))], [view(heatmap=EVIDENCE)])
    with Image.open(tmp_path / "01-IM1.png") as picture:
        assert picture.size == (72, 96)
        pixels = np.asarray(picture)
    assert pixels[-1].mean() < pixels[:, 36].mean()  # bone is bright


def test_a_view_that_was_not_read_stands_on_the_sheet_alone(tmp_path):
    refused = [view(refusal="unlike", heatmap=EVIDENCE), view(refusal="not_a_radiograph")]
    views = [grey_png(48, 64), dicom(radiograph(), Modality="CT")]
    assert written(tmp_path, ["a.png", "IM1"], views, refused) == [SHEET]


def test_the_sheet_shows_each_view_beside_its_heatmap_and_grows_with_them(tmp_path):
    sizes = []
    for number in (1, 2, 3):
        readings = [view(heatmap=EVIDENCE)] * number
        written(tmp_path, ["a" * 300] * number, [grey_png(48, 64)] * number, readings)
        with Image.open(tmp_path / SHEET) as sheet:
            sizes.append(sheet.size)
            colours = np.ptp(np.asarray(sheet.convert("RGB")).astype(int), axis=2)
    assert sizes[0][0] < sizes[1][0] == sizes[2][0]
    assert sizes[0][1] == sizes[1][1] < sizes[2][1]
    left, right = colours[70:400, 14:354], colours[70:400, 356:696]
    assert left.max() < 10 < 100 < right.max()


def test_every_picture_carries_the_disclaimer_and_its_answer(tmp_path):
    written(tmp_path, ["a.png"], [grey_png(48, 64)], [view(heatmap=EVIDENCE)])
    for name in ("01-a.png", SHEET):
        with Image.open(tmp_path / name) as picture:
            assert picture.info["Disclaimer"] == READING.origin.disclaimer
            assert READING.origin.answer_id in picture.info["Source"]
