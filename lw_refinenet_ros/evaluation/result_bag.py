# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation as a bag: labels, overlays and confidence at the original stamps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos
from rosbags.rosbag2 import Reader

from lw_refinenet_ros.evaluation.evaluate import Prediction
from lw_refinenet_ros.evaluation.examples import Example
from lw_refinenet_ros.evaluation.state_folder import clear_parts, part_of
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.image.painting import paint_overlay
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.sources.bag_writer import BagWriter

__all__ = ['ResultBag']


class ResultBag:
    """A context manager that writes results; the bag gets its name when the context ends without an error.

    With a folder for parts, what was written until the last `end_part` outlives a killed process: the parts
    are joined in the end.

    Args:
        path: of the bag, ending in .mcap.
        labels: the classes, for the overlay.
        node: the name that the topics begin with.
        offered: the quality of service of the frames' publishers, which the results have as well.
        parts: the folder to keep parts in, see `parts_of`.
        done: parts that are kept; later ones are of a time that counts for nothing.
    """

    def __init__(
        self,
        path: Path,
        labels: LabelSet,
        node: str,
        offered: Sequence[Qos] = (),
        parts: Path | None = None,
        done: int = 0,
    ) -> None:
        self._path, self._labels, self._node, self._offered = path, labels, node, offered
        self._parts, self.done = parts, done
        self._writer: BagWriter | None = None
        self._stack = ExitStack()

    def __enter__(self) -> ResultBag:
        if self._parts:
            clear_parts(self._parts, self.done)
            self._parts.mkdir(exist_ok=True)
        else:
            self._writer = self._open(self._path)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        self._stack.__exit__(kind, *error)
        if self._parts and kind is None:
            self._join(self._parts)

    def write(self, example: Example, result: Prediction) -> None:
        """Write the results of one frame."""
        if self._writer is None:
            assert self._parts, 'without parts it was opened at once'
            self._writer = self._open(part_of(self._parts, self.done))
        image, order = example.image
        overlay = paint_overlay(image, result.label, self._labels, order=order)
        arrays = [('label', result.label, 'mono8'), ('overlay', overlay, 'rgb8')]
        if result.confidence is not None:
            arrays.append(('confidence', result.confidence, 'mono8'))
        for output, array, encoding in arrays:
            stamp_ns, frame_id = example.stamp_ns, example.frame_id
            frame = Frame.from_array(array, stamp_ns=stamp_ns, frame_id=frame_id, encoding=encoding)
            self._writer.write_image(f'{self._node}/{output}', frame, self._offered)

    def end_part(self) -> None:
        """Complete the current part on disk."""
        if self._parts and self._writer:
            self._stack.close()
            self._writer = None
            self.done += 1

    def _open(self, path: Path) -> BagWriter:
        return self._stack.enter_context(BagWriter(path, compress=True))

    def _join(self, parts: Path) -> None:
        with BagWriter(self._path, compress=True) as whole:
            for index in range(self.done):
                with Reader(part_of(parts, index)) as part:
                    for connection, stamp_ns, cdr in part.messages():
                        whole.write_raw(connection.topic, connection.msgtype, cdr, stamp_ns, self._offered)
