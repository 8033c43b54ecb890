"""Sheets of small images, for the eye: what each body part looks like, what was quarantined.

S: side of the packed squares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from bonexray.images import Pixels

NORMAL, ABNORMAL, QUARANTINED = (70, 150, 110), (205, 85, 70), (190, 150, 60)
_COLUMNS = 8
_TILE_PX, _GAP_PX, _EDGE_PX, _CAPTION_PX = 144, 10, 3, 18
_BACKGROUND, _INK, _PAPER = (250, 250, 248), (60, 60, 60), (235, 235, 225)
_WORDS_WIDTH, _WORDS_LINES = 24, 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One image of a sheet."""

    square: Pixels
    """(S, S) uint8."""
    caption: str
    edge: tuple[int, int, int]
    """Colour of its edge."""
    words: str = ""
    """What stands on the image, such as why there is none."""


def draw_sheet(title: str, tiles: Sequence[Tile], path: Path) -> None:
    """Write a sheet of tiles, row by row, as a PNG."""
    columns = min(_COLUMNS, max(len(tiles), 3))
    rows = -(-len(tiles) // columns)
    across, down = _TILE_PX + _GAP_PX, _TILE_PX + _GAP_PX + _CAPTION_PX
    size = (columns * across + _GAP_PX, rows * down + _GAP_PX + 30)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP_PX, 10), title, _INK, ImageFont.load_default(16))
    caption = ImageFont.load_default(11)
    for number, tile in enumerate(tiles):
        left, top = _GAP_PX + number % columns * across, 36 + number // columns * down
        draw.rectangle((left, top, left + _TILE_PX - 1, top + _TILE_PX - 1), tile.edge)
        inner = _TILE_PX - 2 * _EDGE_PX
        view = Image.fromarray(tile.square).resize((inner, inner), Image.Resampling.BICUBIC)
        sheet.paste(view, (left + _EDGE_PX, top + _EDGE_PX))
        words = "\n".join(wrap(tile.words, _WORDS_WIDTH)[:_WORDS_LINES])
        draw.text((left + 2 * _EDGE_PX, top + 2 * _EDGE_PX), words, _PAPER, caption)
        draw.text(
            (left, top + _TILE_PX + 3), _shortened(draw, tile.caption, caption), _INK, caption
        )
    sheet.save(path)


def _shortened(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    if draw.textlength(text, font) <= _TILE_PX:
        return text
    while text and draw.textlength(f"…{text}", font) > _TILE_PX:
        text = text[1:]
    return f"…{text}"
