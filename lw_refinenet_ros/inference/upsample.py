# SPDX-License-Identifier: Apache-2.0
"""Labels at the image's size from logits at the network's stride, without logits at the image's size.

Between the centres of four neighbouring logits lies a cell of pixels. Where the four agree on the
class of the highest logit, so does every bilinear blend of them: only cells with corners that
disagree, about a tenth of a street, are interpolated.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ['ratio_of', 'upsample_argmax']


def ratio_of(image_size: tuple[int, int], logits_size: tuple[int, int]) -> tuple[int, int] | None:
    """Give the image's pixels per logit, (vertical, horizontal), or None if they are no whole numbers."""
    ratios = [divmod(image, logits) for image, logits in zip(image_size, logits_size)]
    return None if any(rest for _, rest in ratios) else (ratios[0][0], ratios[1][0])


def upsample_argmax(
    logits: npt.NDArray[np.float32], nearest: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]
) -> None:
    """Write the argmax of the bilinearly upsampled logits (half-pixel centres) into `label`.

    Args:
        logits: float32 (C, h, w).
        nearest: uint8 (h, w), their argmax over the classes.
        label: uint8 (H, W) with H and W whole multiples of h and w.

    """
    classes, height, width = logits.shape
    rows, columns = label.shape[0] // height, label.shape[1] // width
    blend = _blend(rows, columns)
    # Cell (i, j) has the logits (i - 1, j - 1) to (i, j) at its corners, beyond the border the nearest.
    padded = np.pad(nearest, 1, mode='edge')
    corner = padded[:-1, :-1]
    mixed = (corner != padded[:-1, 1:]) | (corner != padded[1:, :-1]) | (corner != padded[1:, 1:])
    cells = np.repeat(np.repeat(corner, rows, 0), columns, 1)
    i, j = np.nonzero(mixed)
    if i.size:
        above, below = np.maximum(i - 1, 0) * width, np.minimum(i, height - 1) * width
        left, right = np.maximum(j - 1, 0), np.minimum(j, width - 1)
        corners = np.concatenate([above + left, above + right, below + left, below + right])
        values = np.take(logits.reshape(classes, -1), corners, axis=1).reshape(classes, 4, -1)
        blended = np.matmul(blend, values)  # (C, rows * columns, cells)
        best, winner = blended[0], np.zeros(blended.shape[1:], np.uint8)
        for index in range(1, classes):
            np.putmask(winner, blended[index] > best, index)
            np.maximum(best, blended[index], out=best)
        of_cell = winner.reshape(rows, columns, -1).transpose(2, 0, 1)
        cells.reshape(height + 1, rows, width + 1, columns)[i, :, j, :] = of_cell
    top, start = rows - rows // 2, columns - columns // 2
    label[...] = cells[top : top + label.shape[0], start : start + label.shape[1]]


@lru_cache
def _blend(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Weigh a cell's corners for each of its pixels: (rows * columns, 4)."""
    vertical, horizontal = (
        np.stack([1 - part, part], 1)
        for part in ((np.arange(n) + (0.5 if n % 2 == 0 else 0)) / n for n in (rows, columns))
    )
    weights = np.einsum('ia,jb->ijab', vertical, horizontal).reshape(rows * columns, 4)
    return np.asarray(weights, np.float32)
