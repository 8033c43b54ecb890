"""Training pixels -> resolved augmentation policy with normalisation statistics, and a preview.

N images, S the side of an image in pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from bonexray.artifacts import refuse_overlap, whole_folder
from bonexray.augmentation import apply, draw
from bonexray.command import run_or_exit, step_parser
from bonexray.config import AugmentConfig, read_section
from bonexray.dataset import open_images
from bonexray.errors import DataError
from bonexray.images import ImageSpec, Pixels
from bonexray.policy import Policy, write_policy
from bonexray.studies import BODY_PARTS
from bonexray.tables import read_manifest

PREVIEW_FILE = "preview.png"
_VARIANTS = 7
_CHUNK = 1024  # images in memory at once


def pixel_statistics(images: Pixels, rows: npt.NDArray[np.integer]) -> tuple[float, float]:
    """Mean and standard deviation of the pixels of some images, scaled to [0, 1].

    Summed in integers: the result does not depend on the order or the chunks.
    """
    total, squares = 0, 0
    for start in range(0, len(rows), _CHUNK):
        chunk = images[rows[start : start + _CHUNK]].astype(np.uint64)  # (n, S, S)
        total += int(chunk.sum())
        squares += int((chunk * chunk).sum())
    count = len(rows) * images.shape[1] * images.shape[2]
    mean = total / count
    return mean / 255, float(np.sqrt(squares / count - mean * mean)) / 255


def preview_sheet(originals: Pixels, config: AugmentConfig) -> Image.Image:
    """One line an original: itself at the left, then variants as training would draw them."""
    generator = torch.Generator().manual_seed(config.seed)
    size = originals.shape[1]
    sheet = np.zeros((len(originals) * size, (_VARIANTS + 1) * size), np.uint8)
    for line, original in enumerate(originals):
        batch = torch.from_numpy(np.repeat(original[None, None], _VARIANTS, axis=0)) / 255
        draws = draw(_VARIANTS, config, generator)
        variants = apply(batch, draws, size)  # (V, 1, S, S)
        cells = np.concatenate([original, *(variants[:, 0] * 255).byte().numpy()], axis=1)
        sheet[line * size : (line + 1) * size] = cells
    return Image.fromarray(sheet)


def augment(dataset: Path, validated: Path, out: Path, config: AugmentConfig) -> None:
    """Resolve the policy on the training split and write policy.json and preview.png to `out`.

    Raises:
        DataError: an input cannot be read, or no view is in the training split.
    """
    refuse_overlap([out], [dataset, validated])
    images, manifest = open_images(dataset), read_manifest(validated)
    training = manifest[manifest["split"] == "train"]
    if training.empty:
        raise DataError(f"{validated}: no view is in the split 'train'")
    mean, std = pixel_statistics(images, training["row"].to_numpy())
    policy = Policy(image=ImageSpec(size=images.shape[1], mean=mean, std=std), augment=config)
    with whole_folder(out) as folder:
        preview_sheet(images[_one_of_each_part(training)], config).save(folder / PREVIEW_FILE)
        write_policy(folder, policy)
    print(f"augment: pixel mean {mean:.4f}, standard deviation {std:.4f} -> {out}")


def _one_of_each_part(training: pd.DataFrame) -> npt.NDArray[np.integer]:
    rows = training.groupby("body_part")["row"].first()
    return rows.reindex([part for part in BODY_PARTS if part in rows.index]).to_numpy()


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the step."""
    parser = step_parser("augment", "Resolve the augmentation policy on the training split.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder that ingest wrote")
    parser.add_argument("--validated", type=Path, required=True, help="folder of the manifest")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    run_or_exit(
        "augment",
        lambda: augment(
            args.dataset, args.validated, args.out, read_section(args.params, AugmentConfig)
        ),
    )


if __name__ == "__main__":
    main()
