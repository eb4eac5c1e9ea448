# SPDX-License-Identifier: Apache-2.0
"""Self-training: a teacher labels frames without masks, for a student that sees them strongly perturbed.

Weak-to-strong consistency in the form of FixMatch (Sohn et al., NeurIPS 2020) and UniMatch (Yang et al., CVPR
2023), but with a fixed teacher, as in Noisy Student (Xie et al., CVPR 2020): it sees each whole frame once,
unperturbed, and only labels above a confidence count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.resources import find_weights
from lw_refinenet_ros.sources.images import ImageSource
from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.selection import select
from lw_refinenet_ros.sources.source import OnError
from lw_refinenet_ros.training.dataset import DataError, Pairs, find_pairs
from lw_refinenet_ros.training.drafting import draft_masks
from lw_refinenet_ros.training.label_folder import LabelFolder

__all__ = ['draft_pseudo_labels']


def draft_pseudo_labels(
    source: str,
    teacher: str,
    labels: LabelSet,
    run: Path,
    *,
    confidence: float,
    device: str = 'auto',
    different: float | None = None,
    on_error: OnError | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Pairs:
    """Write the frames of a source with a teacher's labels to a folder in `run`; return them.

    The folder is named after source, teacher and options: frames that it has are not labelled again.

    Args:
        source: as `open_source` takes it; not a camera, which has no end.
        teacher: name or file of the weights, with the same classes.
        labels: the classes of the student.
        run: the folder of the run.
        confidence: 0 to 1; pixels of lower confidence are unlabelled.
        device: of the teacher, see `Segmenter.load`.
        different: see `select`.
        on_error: takes what cannot be read.
        progress: takes the number of frames labelled.

    Raises:
        ValueError: the teacher has other classes, or no pixel reaches the confidence.
    """
    if source.startswith('camera:'):
        raise ValueError(f'{source} has no end: record it first')
    segmenter = Segmenter.load(teacher, device=device)
    if segmenter.labels.names != labels.names:
        theirs, ours = (', '.join(each.names) for each in (segmenter.labels, labels))
        raise ValueError(f'{teacher} has the classes {theirs}, not {ours}: train a teacher on the same masks')
    made_of = find_weights(teacher).read_bytes() + repr((source, confidence, different)).encode()
    folder = LabelFolder(run / f'unlabelled_{hashlib.sha256(made_of).hexdigest()[:8]}', labels)
    with open_source(source, on_error=on_error) as frames:
        draft_masks(
            select(frames, different=different, on_error=on_error),
            segmenter,
            folder,
            files=frames.paths if isinstance(frames, ImageSource) else {},
            min_confidence=confidence,
            progress=progress,
        )
    segmenter.close()
    try:
        return find_pairs(folder.path)
    except DataError as error:
        raise ValueError(f'{source}: {error}; is the confidence of {confidence} too high?') from error
