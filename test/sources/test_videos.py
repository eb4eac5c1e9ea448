# SPDX-License-Identifier: Apache-2.0
"""Videos are read at their own times, upright, whatever their files are called."""

import os
import struct
import time
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.source import SourceError

SECOND = 1_000_000_000
TIMES_MS = [0, 33, 66, 200, 210, 1000]


def write_video(path, times_ms=TIMES_MS, codec='h264', container=None):
    """Frames that get brighter, dark in the upper half."""
    with av.open(str(path), 'w', container) as video:
        stream = video.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time_ms in enumerate(times_ms):
            image = np.zeros((48, 64, 3), np.uint8)
            image[24:] = 30 * index + 10
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    return path


def write_avi(path, count):
    """Frames that get brighter, at 25 Hz; the file says how many there are."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 25, (64, 48))
    for index in range(count):
        writer.write(np.full((48, 64, 3), 240 * index // count, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'MOV'])
def test_frames_have_the_times_of_the_file_at_a_variable_rate_too(suffix, tmp_path):
    with open_source(write_video(tmp_path / f'v.{suffix}')) as source:
        for _ in range(2):
            frames = list(source)
            assert [frame.stamp_ns for frame in frames] == [SECOND + 1_000_000 * time for time in TIMES_MS]
            assert [frame.log_ns for frame in frames] == [frame.stamp_ns for frame in frames]
            assert [frame.name for frame in frames] == [f'{frame.stamp_ns:019}' for frame in frames]
            shades = [int(frame.data[-1]) for frame in frames]
            assert shades == sorted(shades)


@pytest.mark.parametrize(
    ('codec', 'container', 'suffixes'),
    [('h264', 'h264', '264 h264'), ('libx265', 'hevc', '265 h265 hevc'), ('mjpeg', 'mjpeg', 'mjpeg mjpg')],
)
def test_streams_without_a_container_are_videos(codec, container, suffixes, tmp_path):
    path = write_video(tmp_path / 'v', range(0, 198, 33), codec, container)
    for suffix in suffixes.split():
        path = path.rename(tmp_path / f'v.{suffix}')
        with open_source(path) as source:
            assert len(list(source)) == 6


def test_pixels_are_those_that_opencv_reads(tmp_path):
    path = write_video(tmp_path / 'v.mp4')
    capture = cv2.VideoCapture(str(path))
    with open_source(path) as source:
        for frame in source:
            np.testing.assert_array_equal(frame.data.reshape(frame.height, frame.width, 3), capture.read()[1])


def test_a_video_that_was_taken_upright_is_turned(tmp_path):
    path = write_video(tmp_path / 'v.mp4')
    content = bytearray(path.read_bytes())
    at = content.index(b'tkhd') + 44  # the matrix of the track
    content[at : at + 36] = struct.pack('>9i', 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    with open_source(path) as source:
        frame = list(source)[-1]
    image = frame.data.reshape(frame.height, frame.width, 3)
    assert image.shape == (64, 48, 3)
    assert image[:, :20].mean() > 150
    assert image[:, 28:].mean() < 50


def test_a_recording_of_sound_alone_is_not_called_damaged(tmp_path):
    path = tmp_path / 'v.mp4'
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('aac', rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format='fltp', layout='mono')
        sound.sample_rate = 44100
        file.mux([*stream.encode(sound), *stream.encode()])
    with pytest.raises(SourceError, match=r'v\.mp4 has no video stream, only audio'):
        open_source(path)


def test_a_name_that_is_not_utf_8_is_a_name(tmp_path):
    path = write_video(tmp_path / 'v.avi', [0, 40, 80], 'mjpeg').rename(
        tmp_path / os.fsdecode(b'film\xe9.avi')
    )
    with open_source(path) as source:
        assert len(list(source)) == 3


def test_a_damaged_part_costs_only_itself(tmp_path):
    path = write_avi(tmp_path / 'v.avi', 8)
    content = bytearray(path.read_bytes())
    at = content.index(b'\xff\xd8', content.index(b'\xff\xd8') + 2)  # the second JPEG
    content[at : at + 200] = bytes(200)
    path.write_bytes(content)
    errors = []
    with open_source(path, on_error=errors.append) as source:
        stamps = [frame.stamp_ns for frame in source]
    assert stamps == [SECOND + 40_000_000 * index for index in range(8) if index != 1]
    assert [f'{path}: packet 1 is damaged' in str(error) for error in errors] == [True]
    assert 'Errno' not in str(errors[0])


@pytest.mark.parametrize(('part', 'least', 'most'), [(0.625, 50, 60), (0.8, 70, 80), (0.9, 82, 90)])
def test_a_video_that_lacks_less_than_half_of_its_frames_is_called_truncated(part, least, most, tmp_path):
    path = write_avi(tmp_path / 'v.avi', 100)
    content = path.read_bytes()
    path.write_bytes(content[: int(content.rindex(b'idx1') * part)])
    errors = []
    with open_source(path, on_error=errors.append) as source:
        count = len(list(source))
    assert least < count < most
    assert [f'ends after frame {count} of 100: it is truncated' in str(error) for error in errors] == [True]


@pytest.mark.parametrize(
    'content',
    [
        '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n',
        'ffconcat version 1.0\nfile {other}\n',
        'ffconcat version 1.0\nfile v.mp4\n',  # which FFmpeg calls safe
        'v=0\no=- 0 0 IN IP4 ::1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n',
    ],
)
def test_a_playlist_opens_no_other_file_and_no_address(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'list.mp4'
    path.write_text(content.format(other=write_video(tmp_path / 'v.mp4')))
    with pytest.raises(SourceError, match='cannot be opened as a video'):
        open_source(path)


def test_the_frames_of_a_camera_have_the_time_they_came_and_it_is_let_go(tmp_path, monkeypatch):
    attached, opened = cv2.VideoCapture, []
    write_avi(tmp_path / 'camera.avi', 2)

    def attach(_):
        opened.append(attached(str(tmp_path / 'camera.avi')))
        return opened[-1]

    monkeypatch.setattr(cv2, 'VideoCapture', attach)
    began_ns = time.time_ns()
    with open_source('camera:0') as source:
        assert (source.rate_hz, source.length) == (25, None)
        frames = iter(source)
        stamps_ns = [next(frames).stamp_ns for _ in range(2)]
        with pytest.raises(SourceError, match='camera:0 stopped sending frames'):
            next(frames)
        assert opened[0].isOpened()
    assert not opened[0].isOpened(), 'another program may have it'
    assert began_ns <= stamps_ns[0] <= stamps_ns[1] <= time.time_ns()
    unknown = SimpleNamespace(isOpened=lambda: True, get=lambda _: 0.0, release=lambda: None)
    monkeypatch.setattr(cv2, 'VideoCapture', lambda _: unknown)
    with open_source('camera:0') as source:
        assert source.rate_hz is None
