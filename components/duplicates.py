"""Images that are there twice: byte for byte, or encoded, brightened or scaled anew.

N images of S x S pixels, as ingest packed them. Knows no archive and no rule.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from bonexray.images import Pixels

Hashes = NDArray[np.uint64]

MAX_DISTANCE = 6
"""Bits of 64 in which the hashes of two pictures of the same exposure may differ."""
MIN_CORRELATION = 0.92
"""Of their detail; two exposures of like limbs share their outlines, not their grain."""
_HASH_SIDE, _HASH_INPUT = 8, 32
_DETAIL_SIDE, _COARSE_SIDE = 48, 12
_BLOCK = 512


def perceptual_hashes(images: Pixels) -> Hashes:
    """The (N,) pHashes of (N, S, S) images: alike for copies of one exposure.

    The signs, about their median, of the 8 x 8 lowest frequencies of the discrete cosine
    transform of the image at 32 x 32 (Zauner, "Implementation and Benchmarking of Perceptual Image
    Hash Functions", 2010).
    """
    k, n = np.arange(_HASH_SIDE)[:, None], np.arange(_HASH_INPUT)[None, :]
    cosines = np.cos(np.pi * k * (2 * n + 1) / (2 * _HASH_INPUT)).astype(np.float32)
    hashes = np.empty(len(images), dtype=np.uint64)
    for start in range(0, len(images), _BLOCK):
        small = _shrunk(images[start : start + _BLOCK], _HASH_INPUT)
        low = (cosines @ small @ cosines.T).reshape(len(small), -1)  # (block, 64)
        signs = low > np.median(low, axis=1, keepdims=True)
        hashes[start : start + _BLOCK] = np.packbits(signs, axis=1).view(">u8")[:, 0]
    return hashes


def near_pairs(images: Pixels, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The (P, 2) positions of images that show one exposure and lie in different groups.

    Args:
        images: (N, S, S) uint8.
        groups: (N,) whose they are: copies within a group are not sought.
    """
    hashes, detail = perceptual_hashes(images), _detail(images)
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(hashes), _BLOCK):
        pairs = _alike(hashes, groups, start)
        for part in np.array_split(pairs, len(pairs) // _BLOCK + 1):
            one, other = (detail[part[:, side]].astype(np.float32) for side in (0, 1))
            found.append(part[np.einsum("nd,nd->n", one, other) >= MIN_CORRELATION])
    return np.concatenate(found)


def _alike(hashes: Hashes, groups: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """Pairs of the block from `start` with itself and all that follow it, by hash alone."""
    block = hashes[start : start + _BLOCK]
    distance = np.bitwise_count(block[:, None] ^ hashes[None, start:])
    first, second = np.nonzero(distance <= MAX_DISTANCE)
    first, second = first + start, second + start
    kept = (first < second) & (groups[first] != groups[second])
    return np.stack([first[kept], second[kept]], axis=1)


def _detail(images: Pixels) -> NDArray[np.float16]:
    """(N, D) unit vectors of what an image holds beside its coarse form."""
    side = min(_DETAIL_SIDE, images.shape[1])
    details = np.empty((len(images), side * side), dtype=np.float16)
    for start in range(0, len(images), _BLOCK):
        fine = _shrunk(images[start : start + _BLOCK], side)
        coarse = [
            np.asarray(
                Image.fromarray(image)
                .resize((_COARSE_SIDE,) * 2, Image.Resampling.BOX)
                .resize((side, side), Image.Resampling.BILINEAR)
            )
            for image in fine
        ]
        rest = (fine - np.array(coarse)).reshape(len(fine), -1)
        norm = np.linalg.norm(rest, axis=1, keepdims=True)
        details[start : start + _BLOCK] = rest / np.maximum(norm, 1e-6)
    return details


def _shrunk(images: Pixels, side: int) -> NDArray[np.float32]:
    small = [
        np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))
        for image in images
    ]
    return np.array(small, dtype=np.float32).reshape(len(images), side, side)


def copies_elsewhere(digests: "pd.Series[str]", patients: "pd.Series[str]") -> "pd.Series[bool]":
    """Whether a file's bytes are there under another patient too; missing digests never are."""
    return patients.groupby(digests).transform("nunique").reindex(digests.index) > 1


def copies_of_own(digests: "pd.Series[str]", patients: "pd.Series[str]") -> "pd.Series[bool]":
    """Whether a file's bytes are there before it under the same patient."""
    return digests.notna() & pd.DataFrame({"d": digests, "p": patients}).duplicated()


def partners(pairs: NDArray[np.int64], paths: Sequence[str]) -> dict[int, str]:
    """Position -> path of the first other image that shows the same exposure."""
    found: dict[int, str] = {}
    for one, other in pairs.tolist():
        found.setdefault(one, paths[other])
        found.setdefault(other, paths[one])
    return found
