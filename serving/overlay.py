"""The views of a study under their heatmaps: a picture of each, and a sheet of all for the eye."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from bonexray.artifacts import whole_file
from bonexray.errors import ImageError
from bonexray.images import fitted_size, open_image
from serving.answer_text import in_words, plain, shown_probability
from serving.answers import HEATMAP, StudyReading, ViewReading
from serving.dicom.refusal import ViewRefusedError
from serving.pictures import open_picture

SHEET = "sheet.png"
MAX_PX = 1024
"""Long side of a picture at most."""
_MAX_STEM = 60
"""Characters of a view's name that its picture's name holds: a disk takes 255 bytes."""
_SIDE_PX, _GAP_PX, _COLUMNS = 340, 14, 2
_HEAD_PX, _CAPTION_PX, _FOOT_PX = 62, 46, 62
_BACKGROUND, _FRAME = (18, 18, 20), (34, 34, 38)
_INK, _FAINT = (235, 235, 230), (160, 160, 156)
_COLOURS = {"positive": (255, 120, 100), "doubtful": (245, 200, 90), "negative": (125, 205, 160)}
_LEGEND_PX = (120, 10)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ViewPictures:
    """One view, to be shown."""

    name: str
    reading: ViewReading
    grey: Image.Image | None
    """Mode L; None when the file cannot be shown."""
    overlaid: Image.Image | None
    """Mode RGB, of the same size; None when the view was not read."""


def write_overlays(
    folder: Path, names: Sequence[str], views: Sequence[bytes], reading: StudyReading
) -> Path:
    """Write `01-NAME.png` and so on, each view under its heatmap, and `sheet.png` with all views.

    A view that was not read has no heatmap that counts, and stands on the sheet alone.

    Args:
        folder: made where it is missing.
        names: of the views' files.
        views: the files.
        reading: with heatmaps.

    Returns:
        The sheet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [
        _draw_view(name, data, view)
        for name, data, view in zip(names, views, reading.views, strict=True)
    ]
    notes = PngInfo()
    notes.add_text("Disclaimer", reading.origin.disclaimer)
    notes.add_text("Source", f"bonexray, answer {reading.origin.answer_id}")
    for number, view in enumerate(pictures, start=1):
        if view.overlaid is not None:
            _save(
                view.overlaid, folder / f"{number:02}-{Path(view.name).stem[:_MAX_STEM]}.png", notes
            )
    _save(draw_sheet(pictures, reading), folder / SHEET, notes)
    return folder / SHEET


def lay_over(grey: Image.Image, heatmap: bytes) -> Image.Image:
    """A view under its heatmap.

    Args:
        grey: mode L, of any size.
        heatmap: PNG with transparency, in the view's aspect ratio.

    Returns:
        Mode RGB, of the size of `grey`.

    Raises:
        ImageError: the heatmap is no picture.
    """
    try:
        image = open_image(heatmap)
    except ImageError as error:
        raise ImageError(f"{HEATMAP} of the answer: {error}") from error
    over = image.convert("RGBA").resize(grey.size, Image.Resampling.BICUBIC)
    return Image.alpha_composite(grey.convert("RGBA"), over).convert("RGB")


def draw_sheet(pictures: Sequence[ViewPictures], reading: StudyReading) -> Image.Image:
    """All views, each beside itself under its heatmap, with what was said of them."""
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    pair_px = 2 * _SIDE_PX + 2
    across, down = pair_px + _GAP_PX, _SIDE_PX + _CAPTION_PX + _GAP_PX
    size = (columns * across + _GAP_PX, _HEAD_PX + rows * down + _FOOT_PX)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _write_head(draw, reading)
    for number, view in enumerate(pictures):
        left = _GAP_PX + number % columns * across
        top = _HEAD_PX + number // columns * down
        _place(sheet, view.grey, "no picture", left, top)
        _place(sheet, view.overlaid, "no heatmap", left + _SIDE_PX + 2, top)
        _write_caption(draw, view, left, top + _SIDE_PX + 6, pair_px)
    _write_foot(sheet, reading, size[1] - _FOOT_PX)
    return sheet


def _draw_view(name: str, data: bytes, reading: ViewReading) -> ViewPictures:
    try:
        # As the server decodes it, in more pixels.
        grey = open_picture(data, MAX_PX).grey
    except (ImageError, ViewRefusedError):
        return ViewPictures(name=name, reading=reading, grey=None, overlaid=None)
    if max(grey.size) > MAX_PX:
        grey = grey.resize(fitted_size(*grey.size, MAX_PX), Image.Resampling.LANCZOS)
    read = reading.heatmap and not reading.refusal
    overlaid = lay_over(grey, reading.heatmap) if read else None
    return ViewPictures(name=name, reading=reading, grey=grey, overlaid=overlaid)


def _place(
    sheet: Image.Image, picture: Image.Image | None, missing: str, left: int, top: int
) -> None:
    sheet.paste(_FRAME, (left, top, left + _SIDE_PX, top + _SIDE_PX))
    middle = (left + _SIDE_PX // 2, top + _SIDE_PX // 2)
    if picture is None:
        font = ImageFont.load_default(13)
        ImageDraw.Draw(sheet).text(middle, missing, _FAINT, font, anchor="mm")
        return
    fitted = picture.resize(fitted_size(*picture.size, _SIDE_PX), Image.Resampling.LANCZOS)
    sheet.paste(fitted, (middle[0] - fitted.width // 2, middle[1] - fitted.height // 2))


def _write_head(draw: ImageDraw.ImageDraw, reading: StudyReading) -> None:
    verdict = reading.verdict.replace("_", " ")
    colour = _COLOURS.get(reading.verdict, _INK)
    draw.text((_GAP_PX, 8), verdict, colour, ImageFont.load_default(22))
    origin = reading.origin
    why = in_words(reading.refusal) or (
        f"abnormal {shown_probability(reading)}, negative below {origin.negative_below:.3f}, "
        f"positive from {origin.positive_from:.3f}; looks like {reading.body_part}"
    )
    draw.text((_GAP_PX, 38), why, _INK, ImageFont.load_default(13))


def _write_caption(
    draw: ImageDraw.ImageDraw, view: ViewPictures, left: int, top: int, width_px: int
) -> None:
    font, reading = ImageFont.load_default(13), view.reading
    told = (
        f"not read: {in_words(reading.refusal)}"
        if reading.refusal
        else f"abnormal {shown_probability(reading)}, looks like {reading.body_part}"
    )
    for line, (text, ink) in enumerate(((plain(view.name), _INK), (told, _FAINT))):
        draw.text((left, top + 17 * line), _shortened(draw, text, font, width_px), ink, font)


def _write_foot(sheet: Image.Image, reading: StudyReading, top: int) -> None:
    width, height = _LEGEND_PX
    red = Image.new("RGB", _LEGEND_PX, (255, 0, 0))
    yellow = Image.new("RGB", _LEGEND_PX, (255, 255, 0))
    ramp = Image.linear_gradient("L").rotate(90).resize(_LEGEND_PX)
    sheet.paste(Image.composite(red, yellow, ramp), (_GAP_PX, top + 4))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw.text((_GAP_PX + width + 10, top), "some to strong evidence for abnormal", _FAINT, font)
    origin = reading.origin
    source = f"model version {origin.model_version}, answer {origin.answer_id}"
    for line, text in enumerate((source, origin.disclaimer), start=1):
        shown = _shortened(draw, text, font, sheet.width - 2 * _GAP_PX)
        draw.text((_GAP_PX, top + 18 * line), shown, _FAINT, font)


def _shortened(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width_px: int,
) -> str:
    if draw.textlength(text, font) <= width_px:
        return text
    while text and draw.textlength(f"{text}...", font) > width_px:
        text = text[:-1]
    return f"{text}..."


def _save(image: Image.Image, path: Path, notes: PngInfo) -> None:
    with whole_file(path) as partial:
        image.save(partial, "PNG", pnginfo=notes)
