# SPDX-License-Identifier: Apache-2.0
import re
import resource
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
from rosbags import rosbag1, rosbag2
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from lw_refinenet_ros.image.encodings import rgb
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.sources.bag_writer import BagWriter
from lw_refinenet_ros.sources.images import images_in
from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.source import SourceError

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
SECOND = 1_000_000_000


def picture(index, shape=(24, 32, 3)):
    return np.full(shape, 5 * index + 5, np.uint8)


def frame(index, encoding='rgb8'):
    return Frame.from_array(picture(index), stamp_ns=(index + 1) * SECOND, frame_id='c', encoding=encoding)


def image_message(types, index, **header):
    stamp = types['builtin_interfaces/msg/Time'](sec=index + 1, nanosec=0)
    return types[IMAGE](
        header=types['std_msgs/msg/Header'](stamp=stamp, frame_id='c', **header),
        height=24,
        width=32,
        encoding='rgb8',
        is_bigendian=0,
        step=96,
        data=picture(index).reshape(-1),
    )


def write_rosbag2(path, storage, topics=('/image',), count=5):
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg('uint32 a\nstring b', 'made_up_msgs/msg/Nobody'))
    with rosbag2.Writer(path, version=8, storage_plugin=storage) as bag:
        unknown = bag.add_connection('/unknown', 'made_up_msgs/msg/Nobody', typestore=store)
        bag.write(unknown, SECOND, b'\0\1\0\0nonsense')
        connections = [bag.add_connection(topic, IMAGE, typestore=store) for topic in topics]
        for index in range(count):
            for connection in connections:
                raw = store.serialize_cdr(image_message(store.types, index), IMAGE)
                bag.write(connection, (index + 1) * SECOND, raw)


def write_rosbag1(path, count=5):
    store = get_typestore(Stores.ROS1_NOETIC)
    with rosbag1.Writer(path) as bag:
        connection = bag.add_connection('/image', IMAGE, typestore=store)
        for index in range(count):
            message = image_message(store.types, index, seq=index)
            bag.write(connection, (index + 1) * SECOND, store.serialize_ros1(message, IMAGE))


def check(source, count=5):
    with source:
        assert (source.topic, source.length) == ('/image', count)
        assert source.rate_hz == pytest.approx(1)
        for _ in range(2):  # it can be iterated over again
            frames = list(source)
            assert [each.stamp_ns for each in frames] == [(index + 1) * SECOND for index in range(count)]
            assert all(np.array_equal(rgb(each), picture(index)) for index, each in enumerate(frames))


def error_of(source, **options):
    with pytest.raises(SourceError) as caught, open_source(source, **options) as opened:
        list(opened)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ('storage', 'suffix'), [(StoragePlugin.SQLITE3, 'db3'), (StoragePlugin.MCAP, 'mcap')]
)
def test_rosbag2_opens_as_a_directory_as_a_bare_file_and_without_metadata(tmp_path, storage, suffix):
    write_rosbag2(tmp_path / 'bag', storage)
    check(open_source(str(tmp_path / 'bag')))
    check(open_source(tmp_path / 'bag' / f'bag.{suffix}'))
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    check(open_source(tmp_path / 'bag'))


def test_a_ros1_bag_gives_the_same_frames(tmp_path):
    write_rosbag1(tmp_path / 'one.bag')
    check(open_source(tmp_path / 'one.bag'))
    (tmp_path / 'one.bag').write_bytes((tmp_path / 'one.bag').read_bytes()[:3000])
    assert 'one.bag cannot be read as a bag: ' in error_of(tmp_path / 'one.bag')


def test_the_only_topic_that_is_no_result_is_the_default(tmp_path):
    results = [f'/seg/{name}' for name in ('label', 'confidence', 'color', 'overlay')]
    write_rosbag2(tmp_path / 'bag', StoragePlugin.MCAP, ['/image', *results])
    check(open_source(tmp_path / 'bag'))
    with open_source(tmp_path / 'bag', topic='/seg/label') as source:
        assert (source.topic, len(list(source))) == ('/seg/label', 5)


def test_topics_that_are_missing_or_many_are_listed(tmp_path):
    write_rosbag2(tmp_path / 'two', StoragePlugin.MCAP, ['/b/image', '/a/image'])
    assert error_of(tmp_path / 'two').endswith(
        'several image topics, choose one (--topic): /a/image, /b/image'
    )
    text = error_of(tmp_path / 'two', topic='/c')
    assert text.endswith("no image topic '/c': its image topics are /a/image, /b/image")
    write_rosbag2(tmp_path / 'none', StoragePlugin.MCAP, [])
    topics = 'its topics are /unknown (made_up_msgs/msg/Nobody)'
    assert error_of(tmp_path / 'none').endswith(f'no image topic: {topics}')
    assert error_of(tmp_path / 'none', topic='/unknown').endswith(f"no image topic '/unknown': {topics}")


def test_compressed_images_are_decoded(tmp_path):
    types = get_typestore(Stores.ROS2_HUMBLE)
    with BagWriter(tmp_path / 'x.mcap') as bag:
        for index, suffix in enumerate(('.jpg', '.png')):
            message = types.types[COMPRESSED](
                header=image_message(types.types, index).header,
                format='rgb8; jpeg compressed bgr8',
                data=cv2.imencode(suffix, picture(index))[1].reshape(-1),
            )
            raw = types.serialize_cdr(message, COMPRESSED)
            bag.write_raw('/image/compressed', COMPRESSED, raw, (index + 1) * SECOND)
    with open_source(tmp_path / 'x.mcap') as source:
        frames = list(source)
    assert [(each.encoding, each.stamp_ns, each.frame_id) for each in frames] == [
        ('bgr8', SECOND, 'c'),
        ('bgr8', 2 * SECOND, 'c'),
    ]
    assert all(np.abs(rgb(each).astype(int) - picture(i)).max() <= 2 for i, each in enumerate(frames))


def test_a_corrupt_message_is_named_and_can_be_passed_over(tmp_path):
    path = tmp_path / 'x.mcap'
    with BagWriter(path) as bag:
        for index in range(3):
            if index == 1:
                bag.write_raw('/image', IMAGE, b'\0\1\0\0\1', 7)
            else:
                bag.write_image('/image', frame(index))
    text = error_of(path)
    assert re.search(r'x\.mcap: message 0 of /image, logged at 7 ns: the message ends after 5 bytes', text)
    errors = []
    with open_source(path, on_error=errors.append) as source:
        assert [each.stamp_ns for each in source] == [SECOND, 3 * SECOND]
    assert [str(error) for error in errors] == [text]


@pytest.mark.parametrize('compress', [False, True])
def test_the_writer_makes_one_bare_mcap_that_rosbags_reads(tmp_path, compress):
    path = tmp_path / 'out.mcap'
    path.write_bytes(b'old')
    with BagWriter(path, compress=compress) as bag:
        for index in range(5):
            bag.write_image('/image', frame(index))
        bag.write_raw('/names', 'std_msgs/msg/String', b'\0\1\0\0\2\0\0\0x\0', 9 * SECOND)
        assert path.read_bytes() == b'old'
    assert [file.name for file in tmp_path.iterdir()] == ['out.mcap']
    with open_source(path) as source:
        assert source.length == 5
        for index, each in enumerate(source):
            assert (each.stamp_ns, each.frame_id, each.encoding) == ((index + 1) * SECOND, 'c', 'rgb8')
            assert np.array_equal(rgb(each), picture(index))
    with AnyReader([path]) as reader:  # which compiles the definitions in the file
        assert {(each.topic, each.msgtype, each.msgcount) for each in reader.connections} == {
            ('/image', IMAGE, 5),
            ('/names', 'std_msgs/msg/String', 1),
        }
        *images, (connection, log_ns, raw) = reader.messages()
        assert (reader.deserialize(raw, connection.msgtype).data, log_ns) == ('x', 9 * SECOND)
        message = reader.deserialize(images[2][2], IMAGE)
        assert (message.height, message.width, message.step, message.encoding) == (24, 32, 96, 'rgb8')
        assert images[2][1] == 3 * SECOND
    content = path.read_bytes()
    assert content[17:25] == b'\4\0\0\0ros2'  # the profile rosbag2 asks for
    assert b'offered_qos_profiles' in content
    assert b'serialized_metadata' in content
    assert b'ros2msg' in content


def test_padded_rows_survive_the_writer(tmp_path):
    data = np.arange(3 * 10, dtype=np.uint8)
    with BagWriter(tmp_path / 'x.mcap') as bag:
        bag.write_image('/image', Frame(5, 'c', 3, 2, 'bgr8', 10, data, is_bigendian=True))
    with open_source(tmp_path / 'x.mcap') as source:
        (each,) = source
    assert (each.height, each.width, each.step, each.is_bigendian, each.stamp_ns) == (3, 2, 10, True, 5)
    assert np.array_equal(each.data, data)


def test_a_stamp_before_1970_is_written_as_it_is_and_logged_as_zero(tmp_path):
    with BagWriter(tmp_path / 'x.mcap') as bag:
        early = Frame.from_array(picture(0), stamp_ns=-5, frame_id='c', encoding='rgb8')
        bag.write_image('/image', early)
    with open_source(tmp_path / 'x.mcap') as source:
        assert [(each.stamp_ns, each.log_ns, each.name) for each in source] == [(-5, 0, f'-{5:018}')]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / 'x.mcap'
    with pytest.raises(SourceError, match='definition of made_up/msg/X is unknown'), BagWriter(path) as bag:
        bag.write_image('/image', frame(0))
        bag.write_raw('/x', 'made_up/msg/X', b'', 0)
    assert not list(tmp_path.iterdir())
    path.write_bytes(b'old')
    with pytest.raises(KeyboardInterrupt), BagWriter(path):
        raise KeyboardInterrupt
    assert path.read_bytes() == b'old'
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('limit', [100, 60_000, 1_200_000, 1_920_000])
def test_a_disk_that_is_full_at_any_time_is_an_error_with_the_name_and_leaves_what_was_there(tmp_path, limit):
    """In the first bytes, in a chunk, in a later one, and in the index; a process can have such a limit."""
    program = (
        'import sys\nimport numpy as np\n'
        'from lw_refinenet_ros.image.frame import Frame\n'
        'from lw_refinenet_ros.sources.bag_writer import BagWriter\n'
        'random = np.random.default_rng(0)\n'
        'with BagWriter(sys.argv[1], compress=True) as bag:\n'
        '    for index in range(20):\n'
        '        image = random.integers(0, 255, (160, 200, 3), np.uint8)\n'
        "        frame = Frame.from_array(image, stamp_ns=index, frame_id='c', encoding='rgb8')\n"
        "        bag.write_image('/image', frame)\n"
    )
    path = tmp_path / 'x.mcap'
    path.write_bytes(b'old')
    done = subprocess.run(
        [sys.executable, '-c', program, path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{path}'"
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b'old'


def test_a_writer_refuses_a_path_that_cannot_be(tmp_path):
    with pytest.raises(SourceError, match=r'must end in \.mcap'):
        BagWriter(tmp_path / 'x.db3')
    (tmp_path / 'file').write_text('')
    with (
        pytest.raises(OSError, match=f"File exists: '{tmp_path}/file'$"),
        BagWriter(tmp_path / 'file' / 'x.mcap'),
    ):
        pass


@pytest.mark.parametrize(('suffix', 'compress'), [('mcap', False), ('mcap', True), ('db3', False)])
def test_a_bag_cut_short_gives_its_good_frames_and_says_where_it_ends(tmp_path, suffix, compress):
    if suffix == 'db3':
        write_rosbag2(tmp_path / 'bag', StoragePlugin.SQLITE3, count=11)
        whole = (tmp_path / 'bag' / 'bag.db3').read_bytes()
    else:
        with BagWriter(tmp_path / 'w.mcap', compress=compress) as bag:
            for index in range(11):
                big = np.kron(picture(index), np.ones((24, 24, 1), np.uint8))
                bag.write_image(
                    '/image',
                    Frame.from_array(big, stamp_ns=(index + 1) * SECOND, frame_id='c', encoding='rgb8'),
                )
        whole = (tmp_path / 'w.mcap').read_bytes()
    path = tmp_path / f'cut.{suffix}'
    end = len(whole) - (4096 if suffix == 'db3' else 0)  # SQLite fills up a page by itself
    last = -1
    for percent in range(0, 100, 7):
        path.write_bytes(whole[: end * percent // 100])
        errors = []
        try:
            with open_source(path, on_error=errors.append) as source:
                frames = list(source)
        except SourceError as error:
            assert str(error).startswith(f'{path} cannot be read as a bag: ')
            frames = []
        else:
            told = re.search(
                r'is damaged, (\d+) messages? of /image could be read: .* byte \d+', str(errors[0])
            )
            assert int(told[1]) == len(frames)
            assert len(errors) == 1
            assert str(errors[0]) == error_of(path)
        assert [each.stamp_ns for each in frames] == [(index + 1) * SECOND for index in range(len(frames))]
        assert all((each.data == 5 * index + 5).all() for index, each in enumerate(frames))
        assert len(frames) >= last
        last = len(frames)
    assert last >= 7


def test_a_directory_whose_storage_is_cut_short_is_read_up_to_there(tmp_path):
    write_rosbag2(tmp_path / 'bag', StoragePlugin.MCAP)
    path = tmp_path / 'bag' / 'bag.mcap'
    path.write_bytes(path.read_bytes()[:-20])
    errors = []
    with open_source(tmp_path / 'bag', on_error=errors.append) as source:
        assert len(list(source)) == 5
    assert len(errors) == 1


def write_video(path, count=12, fps=25):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), fps, (32, 24))
    for index in range(count):
        writer.write(picture(index))
    writer.release()


def test_a_video_is_stamped_by_its_frame_rate(tmp_path):
    write_video(tmp_path / 'v.avi')
    with open_source(tmp_path / 'v.avi') as source:
        assert (source.topic, source.length, source.rate_hz) == ('image', 12, 25)
        for _ in range(2):
            frames = list(source)
            assert [each.stamp_ns for each in frames] == [SECOND + 40_000_000 * index for index in range(12)]
            assert {(each.encoding, each.frame_id) for each in frames} == {('bgr8', 'camera')}
            assert all(np.abs(rgb(each).astype(int) - picture(i)).max() <= 4 for i, each in enumerate(frames))


@pytest.mark.parametrize(
    ('suffix', 'container', 'codec'),
    [
        ('.m2ts', 'mpegts', 'mpeg2video'),
        ('.3gp', '3gp', 'mpeg4'),
        ('.flv', 'flv', 'flv'),
        ('.mjpeg',) + 2 * ('mjpeg',),
    ],
)
def test_videos_of_camcorders_and_phones_are_read_by_their_suffixes(tmp_path, suffix, container, codec):
    path = tmp_path / f'v{suffix}'
    with av.open(str(path), 'w', format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.bit_rate = 64, 48, 4_000_000
        stream.pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
        for index in range(10):
            pixels = np.full((48, 64, 3), 20 * index, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='bgr24')))
        file.mux(stream.encode())
    with open_source(path) as source:
        frames = list(source)
    assert [each.stamp_ns for each in frames] == [SECOND + 40_000_000 * index for index in range(10)]
    assert all(np.abs(rgb(each).astype(int) - 20 * i).max() <= 6 for i, each in enumerate(frames))


def test_a_damaged_video_is_refused_and_a_short_one_says_where_it_ends(tmp_path):
    path = tmp_path / 'v.avi'
    path.write_bytes(b'nonsense')
    assert error_of(path).startswith(f'{path} cannot be opened as a video')
    write_video(path, 50)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert re.search(r'v\.avi ends after frame \d+ of \d+: it is truncated', error_of(path))
    path = tmp_path / 'v.mkv'  # tells its length in seconds only
    write_video(path, 50)
    with open_source(path) as source:
        assert len(list(source)) == 50
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert re.search(r'v\.mkv ends after frame \d+, 1\.0 s before its end: it is truncated', error_of(path))


def test_a_folder_is_sorted_naturally_at_ten_hertz(tmp_path):
    for name, index in (('frame10.png', 2), ('frame9.bmp', 1), ('frame1.tiff', 0), ('frame11.JPG', 3)):
        content = cv2.imencode(name[name.index('.') :].lower(), picture(index))[1].tobytes()
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'notes.txt').write_text('x')
    with open_source(tmp_path) as source:
        assert (source.length, source.rate_hz, source.topic) == (4, 10, 'image')
        frames = list(source)
    assert [each.stamp_ns for each in frames] == [SECOND + SECOND // 10 * index for index in range(4)]
    assert all(np.abs(rgb(each).astype(int) - picture(i)).max() <= 2 for i, each in enumerate(frames))


def test_images_of_the_same_number_have_an_order_of_their_own(tmp_path):
    names = ['frame001.png', 'frame01.png', 'frame1.png', 'frame2.png']
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in images_in(tmp_path)] == names


def test_stems_of_sixteen_digits_are_stamps(tmp_path):
    stamps = [1700000000000000000, 1700000000200000000]
    for stamp in stamps:
        cv2.imwrite(str(tmp_path / f'{stamp}.png'), picture(0))
    with open_source(tmp_path) as source:
        assert [each.stamp_ns for each in source] == stamps
        assert source.rate_hz == 5
    cv2.imwrite(str(tmp_path / '1700.png'), picture(0))
    with open_source(tmp_path) as source:
        assert [each.stamp_ns for each in source] == [SECOND, SECOND * 11 // 10, SECOND * 12 // 10]


def test_one_image_is_a_source_of_one_frame(tmp_path):
    cv2.imwrite(str(tmp_path / 'x.png'), picture(3))
    with open_source(tmp_path / 'x.png') as source:
        (each,) = source
    assert (each.stamp_ns, each.encoding, source.length) == (SECOND, 'bgr8', 1)


def test_a_broken_image_is_named_and_can_be_passed_over(tmp_path):
    for index in range(3):
        cv2.imwrite(str(tmp_path / f'{index}.jpg'), picture(index))
    (tmp_path / '1.jpg').write_bytes((tmp_path / '1.jpg').read_bytes()[:-50])
    assert '1.jpg: truncated image' in error_of(tmp_path)
    errors = []
    with open_source(tmp_path, on_error=errors.append) as source:
        assert [each.stamp_ns for each in source] == [SECOND, SECOND * 12 // 10]
    assert len(errors) == 1


@pytest.mark.parametrize('name', ['IMG_1.HEIC', 'b.heif', 'c.jxl'])
def test_a_picture_that_cannot_be_decoded_is_reported_not_passed_over(tmp_path, name):
    cv2.imwrite(str(tmp_path / 'a.jpg'), picture(0))
    (tmp_path / 'a.jpg').rename(tmp_path / 'a.jfif')
    (tmp_path / name).write_bytes(b'\0\0\0\x18ftypheic' * 9)
    errors = []
    with open_source(tmp_path, on_error=errors.append) as source:
        assert [each.name for each in source] == ['a']
    assert [str(error).startswith(f'{tmp_path / name}: ') for error in errors] == [True]


def test_a_folder_of_images_and_a_recording_is_not_guessed_at(tmp_path):
    write_rosbag2(tmp_path / 'bag', StoragePlugin.MCAP)
    cv2.imwrite(str(tmp_path / 'bag' / 'preview.png'), picture(0))
    check(open_source(tmp_path / 'bag'))  # its metadata says what it is
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    said = error_of(tmp_path / 'bag')
    assert said.startswith(f'{tmp_path}/bag has a recording, bag.mcap, and images, preview.png: name the ')


def test_a_phones_image_alone_is_called_that_and_not_an_unknown_kind(tmp_path):
    path = tmp_path / 'IMG_1.HEIC'
    path.write_bytes(b'\0\0\0\x18ftypheic' * 9)
    with open_source(path) as source, pytest.raises(SourceError) as caught:
        list(source)
    assert str(caught.value) == f'{path}: 108 bytes of HEIC are no readable image: use JPEG or PNG'


def test_a_file_that_may_not_be_read_is_one_bad_source(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, 'Permission denied')

    (tmp_path / 'x.png').touch()
    monkeypatch.setattr('os.open', refuse)  # root may read all
    assert error_of(tmp_path / 'x.png') == f'{tmp_path}/x.png: Permission denied'


def test_what_is_no_source_is_said_in_one_line(tmp_path):
    assert error_of(tmp_path / 'x.bag') == f'{tmp_path / "x.bag"} does not exist'
    assert error_of('rtsp://camera/1').startswith('rtsp://camera/1 is an address: download the file, or ')
    assert error_of(tmp_path) == f'{tmp_path} has no images and no bag'
    for name in 'edcba':
        (tmp_path / 'above' / name).mkdir(parents=True)
    said = f'{tmp_path}/above has no images and no bag, but folders: name one, such as {tmp_path}/above/a'
    assert error_of(tmp_path / 'above') == said
    cv2.imwrite(str(tmp_path / 'above' / 'c' / 'c.png'), picture(0))
    assert error_of(tmp_path / 'above') == f'{said[:-1]}c'
    (tmp_path / 'a.txt').write_text('x')
    assert 'is not a bag, video, folder of images or image: use one of .db3, .mcap' in error_of(
        tmp_path / 'a.txt'
    )
    assert 'write camera:0 for the first' in error_of('camera:front')
    assert error_of('camera:99').startswith('camera:99 cannot be opened')
    for name in ('x.mcap', 'y.db3', 'z.bag'):
        for content in (b'', b'nonsense' * 100):
            (tmp_path / name).write_bytes(content)
            assert error_of(tmp_path / name).startswith(f'{tmp_path / name} cannot be read as a bag: ')
    assert error_of(tmp_path / 'y.db3').endswith("it does not begin with b'SQLite format 3\\x00'")
    assert error_of(tmp_path).endswith('several recordings, choose one: x.mcap, y.db3, z.bag')
    cv2.imwrite(str(tmp_path / 'x.png'), picture(0))
    assert error_of(tmp_path / 'x.png', topic='/image').endswith("is not a bag and has no topic '/image'")


def test_a_folder_of_videos_is_told_from_an_empty_one(tmp_path):
    (tmp_path / 'b.MP4').touch()
    said = f'{tmp_path} has no images and no bag, but 1 video: name one, such as {tmp_path}/b.MP4'
    assert error_of(tmp_path) == said
    (tmp_path / 'a.mp4').touch()
    assert error_of(tmp_path) == (
        f'{tmp_path} has no images and no bag, but 2 videos: name one, such as {tmp_path}/a.mp4; '
        f'segment takes several: {tmp_path}/*.mp4'
    )
