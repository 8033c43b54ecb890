"""A map of evidence as a picture that can be laid over its view.

h x w is the size of a map, S the side of the square that the network sees.
"""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

FULL_COLOUR = 4.0
"""Evidence, in units of the logit, that is drawn in full colour. A map with more is drawn by its
own maximum; one that stays far below is drawn faintly."""
_OPACITY = 0.6


def draw_heatmap(cam: npt.NDArray[np.float32], shape: tuple[int, int], size: int) -> bytes:
    """A PNG with transparency, from yellow to red where the evidence for abnormal is.

    Args:
        cam: (h, w) over the whole square.
        shape: (height, width) of the view in the square, in px; the picture has this size, and so
            the view's aspect ratio.
        size: S.
    """
    relative = cam / max(float(cam.max()), FULL_COLOUR)
    square = Image.fromarray(relative).resize((size, size), Image.Resampling.BICUBIC)
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    strength = np.clip(np.asarray(square), 0, 1)[top : top + shape[0], left : left + shape[1]]
    picture = np.zeros((*shape, 4), np.uint8)
    picture[..., 0] = 255
    picture[..., 1] = np.round(255 * (1 - strength))
    # Squared: what is weak everywhere would veil the bone.
    picture[..., 3] = np.round(255 * _OPACITY * strength**2)
    file = BytesIO()
    Image.fromarray(picture, "RGBA").save(file, "PNG", compress_level=1)
    return file.getvalue()
