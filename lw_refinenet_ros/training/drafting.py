# SPDX-License-Identifier: Apache-2.0
"""Write frames with predicted masks, to correct and train on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.image.encodings import ColorImage
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.labels import UNLABELLED, LabelSet
from lw_refinenet_ros.sources.source import SourceFrame
from lw_refinenet_ros.training.label_folder import LabelFolder

__all__ = ['Drafts', 'draft_masks', 'translate_ids']


@dataclass
class Drafts:
    """What was written."""

    names: list[str] = field(default_factory=list)  #: frames that got a mask
    kept: int = 0  #: frames that already had one
    #: Pixels of each id in the new masks, int64 (256,)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))


def draft_masks(
    frames: Iterable[tuple[SourceFrame, ColorImage]],
    segmenter: Segmenter,
    folder: LabelFolder,
    *,
    files: Mapping[str, Path],
    min_confidence: float = 0.0,
    png: bool = False,
    limit: int | None = None,
    write_shapes: Callable[[Path, NDArray[np.uint8]], None] = lambda _image, _mask: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Drafts:
    """Segment frames and write images, masks and overlays.

    Existing masks are kept, since they may have been corrected.

    Args:
        frames: frames and their pixels, as from `select`.
        segmenter: predicts the masks.
        folder: the output; its classes may differ from the segmenter's, see `translate_ids`.
        files: image files to copy unchanged, by frame name; other frames are encoded.
        min_confidence: 0 to 1; pixels of lower confidence are left unlabelled.
        png: encode images as PNG instead of JPEG.
        limit: maximum number of frames to write.
        write_shapes: called with the path of each written image and its mask.
        progress: takes the number of frames written.
    """
    ids = translate_ids(segmenter.labels, folder.labels)
    drafts = Drafts()
    for frame, image in frames:
        if folder.is_labelled(frame.name):
            drafts.kept += 1
            continue
        result = segmenter.segment(image.array, order=image.order, confidence=min_confidence > 0)
        mask = ids[result.label]
        if result.confidence is not None:
            mask[result.confidence < min_confidence * 255] = UNLABELLED
        stored = folder.write_image(frame.name, files.get(frame.name, image), png=png)
        write_shapes(stored, mask)
        # Last, since the mask marks a frame as done
        folder.write_mask(frame.name, image, mask, predicted=segmenter.labels.name)
        drafts.names.append(frame.name)
        drafts.counts += np.bincount(mask.ravel(), minlength=256)
        progress(len(drafts.names))
        if len(drafts.names) == limit:
            break
    return drafts


def translate_ids(ours: LabelSet, theirs: LabelSet) -> NDArray[np.uint8]:
    """Return the id of each class in another label set by name, uint8 (256,); 255 if it is missing."""
    ids = np.full(256, UNLABELLED, np.uint8)
    for index, name in enumerate(ours.names):
        if name in theirs.names:
            ids[index] = theirs.names.index(name)
    return ids
