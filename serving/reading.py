"""The file of a view -> the square that the network sees, and what is known before it does.

S is the side of the square, h x w that of the network's map.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bonexray.errors import ImageError
from bonexray.images import Pixels, fit, letterbox
from serving.dicom.refusal import ViewRefusedError
from serving.oip.errors import BadRequestError
from serving.pictures import Picture, open_picture
from serving.studies import AskedView

OTHER_PART = "other_part"
NO_WINDOW = "no_window"


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedView:
    """A view before the network."""

    square: Pixels | None
    """(S, S); None when the view is refused before the network sees it."""
    shape: tuple[int, int]
    """(height, width) of what the square shows, without its rim; (0, 0) when there is none."""
    claimed_part: str
    """By the request, else by the file; empty when neither says anything."""
    refusal: str
    """Empty when the network may see it."""
    note: str
    """`no_window` where a DICOM file says none, and the grey spreads over its values."""
    sha256: str
    """Of the file."""
    instance_uid: str
    """Of a DICOM file; else empty."""
    study_uid: str
    """The same."""
    seconds: float
    """That decoding took."""


def decode_view(view: AskedView, number: int, size: int) -> DecodedView:
    """Decode one view, whatever its format.

    Args:
        view: as it was sent.
        number: in its request, from 1, for messages.
        size: S.

    Raises:
        BadRequestError: it is no image that we accept. The message never repeats the file.
    """
    started_s = time.perf_counter()
    data, refusal = bytes(view.data), ""
    picture: Picture | None = None
    try:
        picture = open_picture(data, size)
    except ViewRefusedError as error:
        refusal = error.code
    except ImageError as error:
        raise BadRequestError(f"view {number}: {error}") from error
    claimed = view.claimed_part or (picture.claimed_part if picture else "")
    if claimed == "other":  # the header's; a request can only claim a part that is known
        refusal = refusal or OTHER_PART
    fitted = fit(picture.grey, size) if picture and not refusal else None
    return DecodedView(
        square=None if fitted is None else letterbox(fitted, size),
        shape=(0, 0) if fitted is None else (fitted.shape[0], fitted.shape[1]),
        claimed_part=claimed,
        refusal=refusal,
        note=NO_WINDOW if picture and picture.without_window else "",
        sha256=hashlib.sha256(data).hexdigest(),
        instance_uid=picture.instance_uid if picture else "",
        study_uid=picture.study_uid if picture else "",
        seconds=time.perf_counter() - started_s,
    )


def refuse_mixed(views: Sequence[DecodedView], study_of: Sequence[int]) -> None:
    """Views of two visits in one study would give one answer that is neither's.

    Raises:
        BadRequestError: the DICOM files of a study say that they are of several.
    """
    visits: dict[int, set[str]] = {}
    for view, study in zip(views, study_of, strict=True):
        visits.setdefault(study, set()).update({view.study_uid} - {""})
    for study, uids in visits.items():
        if len(uids) > 1:
            raise BadRequestError(
                f"study {study}: its DICOM files have {len(uids)} values of StudyInstanceUID, "
                "expected one"
            )
