# SPDX-License-Identifier: Apache-2.0
"""Segmented frames in the viewer Rerun: names and colours under the pointer, confidence, truth, plots."""

from __future__ import annotations

import importlib
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from lw_refinenet_ros.evaluation.evaluate import Prediction
from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.examples import Example
from lw_refinenet_ros.evaluation.mask_map import MaskMap
from lw_refinenet_ros.files import new_file
from lw_refinenet_ros.image.encodings import to_rgb
from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.labels import OPACITY, UNLABELLED, UNLABELLED_NAME, LabelSet

__all__ = ['APPLICATION', 'RerunLog', 'ViewedFrame', 'viewed']

APPLICATION = 'lw_refinenet'
JPEG_QUALITY = 88
VIEWER_PORT = 9876  # Rerun's own
POLL_S = 0.1
WINDOW_S = 2.0  # a viewer whose window cannot open has ended by then
NO_WINDOW = "the viewer's window is closed, or cannot open on this display: use --save FILE.rrd or --serve"
LOG_LEVELS = 'error,re_grpc_server=warn,re_grpc_client=off,re_sdk=off'  # of Rerun: a lost viewer is our error
RIGHT, WRONG, NO_TRUTH = range(3)  # ids of the difference
DIFFERENCE = (
    (RIGHT, 'right', (0, 0, 0, 0)),
    (WRONG, 'wrong', (226, 74, 51)),
    (NO_TRUTH, 'no truth', (120,) * 3),
)


def viewed(
    evaluation: Evaluation, example: Example, result: Prediction, masks: MaskMap | None = None
) -> ViewedFrame:
    """Return an example with its prediction, just counted by an evaluation, as a frame to look at."""
    scores = evaluation.frames
    scored = bool(scores) and scores[-1].name == example.name
    truth = example.truth if scored else None
    stages = {'decode': example.decode_ms, 'inference': result.latency_ms, 'confident': result.confident_ms}
    return ViewedFrame(
        example.stamp_ns,
        to_rgb(example.image),
        result.label,
        evaluation.labels,
        result.confidence,
        truth if truth is None or masks is None else masks.truth(truth),
        {stage: value for stage, value in stages.items() if value is not None and not math.isnan(value)},
        {'miou': scores[-1].miou} if scored else {},
    )


@dataclass(frozen=True, eq=False)
class ViewedFrame:
    """A frame to look at."""

    stamp_ns: int  #: its own time
    image: Pixels  #: uint8 (H, W, 3) RGB
    label: Pixels  #: uint8 (H, W) class ids; 255 is unlabelled
    labels: LabelSet  #: the classes
    confidence: Pixels | None = None  #: uint8 (H, W), if known
    truth: Pixels | None = None  #: uint8 (H, W) true ids, if known
    latency_ms: Mapping[str, float] = field(default_factory=dict)  #: by stage
    figures: Mapping[str, float] = field(default_factory=dict)  #: more to plot, such as `rate_hz` and `miou`


class RerunLog:
    """Logs frames to one of: a file, a server for browsers, or the viewer itself.

    Args:
        labels: the classes; others can be set later.
        truth: whether the frames have truth.

    Raises:
        ValueError: Rerun is not installed, or cannot work with this NumPy.
    """

    def __init__(self, labels: LabelSet, *, truth: bool = False) -> None:
        os.environ.setdefault('RUST_LOG', LOG_LEVELS)
        if np.__version__.startswith('1.'):  # Rerun 0.23 draws nothing with it, newer ones refuse it
            raise ValueError(
                f'looking at frames needs Rerun, which needs NumPy 2, and here is {np.__version__}, as ROS '
                'may need: use an environment of its own, see "In a viewer" in docs/evaluation.md'
            )
        try:
            self._rr: Any = importlib.import_module('rerun')
            importlib.import_module('rerun.blueprint')
        except ImportError as error:
            raise ValueError(
                f"looking at frames needs Rerun ({error}): pip install 'lw_refinenet_ros[view]'"
            ) from error
        self._stream = self._rr.RecordingStream(APPLICATION)
        self._blueprint = _blueprint(self._rr.blueprint, truth=truth)
        self._labels = labels
        self._frames = 0
        self._viewer: subprocess.Popen[bytes] | None = None  # that was started here

    @contextmanager
    def file(self, path: Path) -> Iterator[None]:
        """Write what is logged meanwhile to a file, which appears whole or not at all."""
        with new_file(path) as temporary:
            self._stream.save(temporary, default_blueprint=self._blueprint)
            self.name_classes(self._labels)
            try:
                yield
            finally:
                self._stream.disconnect()  # only logs that the disk is full
            if not _is_whole(temporary):
                raise ValueError(f'{path} cannot be written whole: is the disk full?')

    def serve(self, port: int) -> str:
        """Serve the viewer on a port of this machine, and the data on the next; return its address.

        Both listen on all interfaces, which Rerun does not let one choose.

        Raises:
            ValueError: a port is taken.
        """
        try:
            data = self._stream.serve_grpc(grpc_port=port + 1, default_blueprint=self._blueprint)
            self._rr.serve_web_viewer(web_port=port, open_browser=False)
        except RuntimeError as error:
            raise ValueError(f'cannot serve on the ports {port} and {port + 1}: {error}') from error
        self.name_classes(self._labels)
        return f'http://localhost:{port}/?url={quote(data, safe="")}'

    def open_viewer(self) -> None:
        """Open the viewer's window, or use the one that is open already.

        It takes data from this machine only, unlike one of Rerun's `spawn`, and outlives this process.

        Raises:
            ValueError: it does not open.
        """
        address = '127.0.0.1', VIEWER_PORT
        command = [sys.executable, '-m', 'rerun_cli', '--expect-data-soon', '--bind', address[0]]
        command += ['--port', str(address[1])]
        while not _listens(address):
            self._viewer = self._viewer or subprocess.Popen(command, start_new_session=True)
            if self._viewer.poll() is not None:
                raise ValueError(NO_WINDOW)
            time.sleep(POLL_S)
        url = f'rerun+http://{address[0]}:{address[1]}/proxy'
        self._stream.connect_grpc(url, default_blueprint=self._blueprint)
        self.name_classes(self._labels)

    def name_classes(self, labels: LabelSet) -> None:
        """Set names and colours of the classes of all frames."""
        self._labels, rr = labels, self._rr
        classes = [(index, *each) for index, each in enumerate(zip(labels.names, labels.colors))]
        unlabelled = (UNLABELLED, UNLABELLED_NAME, (0, 0, 0, 0))
        self._stream.log('/', rr.AnnotationContext([*classes, unlabelled]), static=True)
        self._stream.log('image/difference', rr.AnnotationContext(DIFFERENCE), static=True)
        lines = rr.SeriesLines(names=list(labels.names), colors=[list(color) for color in labels.colors])
        self._stream.log('share', lines, static=True)

    def log(self, frame: ViewedFrame) -> None:
        """Log a frame at its own time."""
        rr, stream, label, truth = self._rr, self._stream, frame.label, frame.truth
        stream.set_time('time', timestamp=np.datetime64(frame.stamp_ns, 'ns'))
        stream.set_time('frame', sequence=self._frames)
        self._frames += 1
        stream.log('image', self._jpeg(frame.image[..., ::-1]))
        stream.log('image/label', rr.SegmentationImage(label, opacity=OPACITY))
        if frame.confidence is not None:
            stream.log('image/confidence', self._jpeg(frame.confidence))
        if truth is not None:
            difference = np.where(label == truth, RIGHT, WRONG).astype(np.uint8)
            difference[truth == UNLABELLED] = NO_TRUTH
            stream.log('image/truth', rr.SegmentationImage(truth, opacity=OPACITY))
            stream.log('image/difference', rr.SegmentationImage(difference, opacity=OPACITY))
        counts = np.bincount(label.ravel(), minlength=256)[: len(self._labels.names)]
        stream.log('share', rr.Scalars(counts / label.size))
        stages = {f'latency_ms/{stage}': value for stage, value in frame.latency_ms.items()}
        for name, value in {**stages, **frame.figures}.items():
            stream.log(name, rr.Scalars(value))

    def flush(self) -> None:
        """Wait until all that was logged is sent.

        Raises:
            ValueError: the viewer is closed, or could not open its window.
        """
        try:
            self._stream.flush()
        except RuntimeError as error:
            raise ValueError(NO_WINDOW) from error

    def wait_for_window(self) -> None:
        """Give a viewer that was started time for its window: it takes data before it opens one.

        Raises:
            ValueError: it could not open its window.
        """
        if self._viewer is not None:
            with suppress(subprocess.TimeoutExpired):
                self._viewer.wait(WINDOW_S)
                raise ValueError(NO_WINDOW)

    def _jpeg(self, image: Pixels) -> Any:
        """Encode a BGR or grey image."""
        _, jpeg = cv2.imencode('.jpg', np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return self._rr.EncodedImage(contents=jpeg.tobytes(), media_type='image/jpeg')


def _listens(address: tuple[str, int]) -> bool:
    """Tell whether a server accepts connections at an address."""
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def _blueprint(rrb: Any, *, truth: bool) -> Any:
    """Lay out the pictures above the plots."""

    def picture(name: str, *layers: str) -> Any:
        return rrb.Spatial2DView(origin='image', contents=[f'image{layer}' for layer in layers], name=name)

    def plot(name: str, origin: str) -> Any:
        return rrb.TimeSeriesView(origin=origin, name=name)

    pictures = [picture('Classes', '', '/label'), picture('Confidence', '/confidence')]
    plots = [plot('Share of pixels', 'share'), plot('Latency, ms', 'latency_ms')]
    if truth:
        pictures += [picture('Truth', '', '/truth'), picture('Difference', '', '/difference')]
        plots.append(plot('mIoU', 'miou'))
    else:
        plots.append(plot('Rate, Hz', 'rate_hz'))
    return rrb.Blueprint(
        rrb.Vertical(rrb.Grid(*pictures, grid_columns=2), rrb.Horizontal(*plots), row_shares=[3, 1]),
        collapse_panels=True,
    )


def _is_whole(path: Path) -> bool:
    """Return whether a recording ends as it should; formats before RRF2 have no mark at the end."""
    with path.open('rb') as file:
        start = file.read(4)
        file.seek(-min(12, path.stat().st_size), os.SEEK_END)
        return start != b'RRF2' or file.read(8) == b'RRF2FOOT'
