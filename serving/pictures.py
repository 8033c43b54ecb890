"""The file of a view -> the picture in it, whatever its format. Knows no protocol, no network."""

from dataclasses import dataclass

from PIL import Image

from bonexray.images import open_image, to_grey
from serving.dicom.reading import is_dicom, read_dicom


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One grey picture, and what its file says besides; a PNG or JPEG says nothing."""

    grey: Image.Image
    """Mode L, bone bright."""
    claimed_part: str = ""
    """As `serving.dicom.reading.DicomView` has it, like all that follows."""
    instance_uid: str = ""
    study_uid: str = ""
    without_window: bool = False


def open_picture(data: bytes, size: int) -> Picture:
    """Read a whole PNG, JPEG or DICOM file.

    Args:
        data: the file.
        size: side in px of the square that the picture will be fitted to; DICOM may come without
            detail that is lost there.

    Raises:
        ViewRefusedError: a sound DICOM file outside of the intended use.
        ImageError: no image that we accept. The message never repeats the file.
    """
    if not is_dicom(data):
        return Picture(grey=to_grey(open_image(data)))
    view = read_dicom(data, size)
    return Picture(
        grey=view.grey,
        claimed_part=view.claimed_part,
        instance_uid=view.instance_uid,
        study_uid=view.study_uid,
        without_window=view.without_window,
    )
