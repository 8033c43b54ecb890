"""Why a sound DICOM file is not read: it lies outside of the intended use."""

from typing import Literal

from bonexray.errors import BonexrayError

DicomRefusal = Literal[
    "not_a_radiograph",
    "for_processing",
    "no_pixels",
    "multi_frame",
    "colour",
    "burned_in_text",
    "unsupported_depth",
    "unsupported_syntax",
]

_SENTENCES: dict[DicomRefusal, str] = {
    "not_a_radiograph": "Modality: expected CR, DX, RG or RF, a plain radiograph",
    "for_processing": "PresentationIntentType: FOR PROCESSING, expected FOR PRESENTATION",
    "no_pixels": "PixelData: missing, expected one image",
    "multi_frame": "NumberOfFrames: more than one, expected a single radiograph",
    "colour": "PhotometricInterpretation: expected MONOCHROME1 or MONOCHROME2 of one sample",
    "burned_in_text": "BurnedInAnnotation: YES, expected pixels that hold no text",
    "unsupported_depth": "BitsAllocated and BitsStored: expected 8 or 16, and 6 to 16 of them",
    "unsupported_syntax": "TransferSyntaxUID: a way of encoding pixels that is not decoded here",
}


class ViewRefusedError(BonexrayError):
    """A DICOM file that is sound and not ours to read. The study goes on without this view."""

    def __init__(self, code: DicomRefusal) -> None:
        """The message is the code's sentence: it holds nothing of the file."""
        super().__init__(_SENTENCES[code])
        self.code: DicomRefusal = code
