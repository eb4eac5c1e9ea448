# SPDX-License-Identifier: Apache-2.0
"""Every kind of recording end to end through `lw_refinenet evaluate`: same pixels in, same figures out."""

import json

import cv2
import numpy as np
import pytest
from rosbags import rosbag2
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.evaluation.masks import MaskStream
from lw_refinenet_ros.image.encodings import ENCODINGS, rgb
from lw_refinenet_ros.image.frame import Frame, parse_image
from lw_refinenet_ros.image.label_png import write_label_png
from test.support.recordings import FORMATS, IMAGE, image_of, pictures, record, stamps

FRAMES = 3
TOPIC, TRUTH = '/front/image', '/front/truth'


@pytest.fixture(scope='module')
def segmenter(tiny_weights):
    return Segmenter.load(str(tiny_weights), engine='torch', precision='fp32', threads=1)


@pytest.fixture
def evaluate(tmp_path, tiny_weights, capsys):
    """Run the command; return what it wrote as --json."""

    def run(bag, *arguments, labels=TRUTH):
        path = tmp_path / 'result.json'
        given = ['--weights', tiny_weights, '--engine', 'torch', '--precision', 'fp32', '--threads', 1]
        given += ['--bag', bag, '--topic', TOPIC, '--labels', labels, '--json', path, *arguments]
        assert main(['evaluate', *map(str, given)]) == 0, capsys.readouterr().err
        return json.loads(path.read_text())

    return run


def mosaic(red, blue):
    """Return the encoder of a Bayer pattern whose red and blue begin at these (row, column)."""

    def encode(image):
        raw = image[..., 1].copy()
        raw[red[0] :: 2, red[1] :: 2] = image[red[0] :: 2, red[1] :: 2, 0]
        raw[blue[0] :: 2, blue[1] :: 2] = image[blue[0] :: 2, blue[1] :: 2, 2]
        return raw

    return encode


def planes(image):
    """Return luma (H, W), and both chromas in one array, (2, H / 2, W / 2)."""
    height, width = image.shape[:2]
    i420 = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    return i420[:height], i420[height:].reshape(2, height // 2, width // 2)


def packed(first):
    """Return the encoder of 4:2:2, luma at byte `first` of each two."""

    def encode(image):
        luma, chroma = planes(image)
        raw = np.empty((*luma.shape, 2), np.uint8)
        raw[..., first] = luma
        raw[:, ::2, 1 - first], raw[:, 1::2, 1 - first] = chroma.repeat(2, axis=1)
        return raw

    return encode


def planar(u_first):
    """Return the encoder of NV12 or of NV21."""

    def encode(image):
        luma, chroma = planes(image)
        pairs = np.stack(chroma if u_first else chroma[::-1], axis=-1)
        return np.concatenate([luma, pairs.reshape(-1, luma.shape[1])])

    return encode


def whole(image):
    """Encode as NV24: luma, then a pair of chroma for each pixel in rows of twice the width."""
    yuv = cv2.cvtColor(image, cv2.COLOR_RGB2YUV).astype(int)
    # OpenCV's is of the full range; the encoding's luma is of 16 to 235, and its chroma of 16 to 240.
    luma = (16 + yuv[..., 0] * 219 / 255).round().astype(np.uint8)
    chroma = np.stack([128 + (image[..., c].astype(int) - yuv[..., 0]) * 112 / (255 - 255 * w)
                       for c, w in ((2, 0.114), (0, 0.299))], axis=-1).round().clip(0, 255)  # fmt: skip
    return np.concatenate([luma, chroma.astype(np.uint8).reshape(2 * len(luma), -1)])


def deep(encode):
    """Return the encoder of the same in 16 bits."""
    return lambda image: (encode(image).astype(np.uint16) * 257).view(np.uint8)


def gray(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def alpha(image):
    return np.dstack([image, np.full(image.shape[:2], 7, np.uint8)])


ENCODERS = {
    'rgb8': lambda image: image,
    'bgr8': lambda image: image[..., ::-1],
    '8UC3': lambda image: image[..., ::-1],
    'rgba8': alpha,
    'bgra8': lambda image: alpha(image[..., ::-1]),
    '8UC4': lambda image: alpha(image[..., ::-1]),
    'mono8': gray,
    '8UC1': gray,
    'mono16': deep(gray),
    'yuv422': packed(1),
    'uyvy': packed(1),
    'yuv422_yuy2': packed(0),
    'yuyv': packed(0),
    'nv12': planar(u_first=True),
    'nv21': planar(u_first=False),
    'bayer_rggb8': mosaic((0, 0), (1, 1)),
    'bayer_bggr8': mosaic((1, 1), (0, 0)),
    'bayer_gbrg8': mosaic((1, 0), (0, 1)),
    'bayer_grbg8': mosaic((0, 1), (1, 0)),
}
ENCODERS |= {
    f'{name[:-1]}16': deep(encode)
    for name, encode in ENCODERS.items()
    if name in ('rgb8', 'bgr8', 'rgba8', 'bgra8') or name.startswith('bayer')
}
ENCODERS['nv24'] = whole
GRAY = ('mono8', '8UC1', 'mono16')


def test_masks_with_padded_rows_are_read_row_by_row():
    padded = np.array([[1, 2, 99], [3, 4, 99]], np.uint8).reshape(-1)
    stream = MaskStream([Frame(5, '', 2, 2, 'mono8', 3, padded)], {5}, pytest.fail)
    np.testing.assert_array_equal(stream.take(5), [[1, 2], [3, 4]])


def test_every_pixel_format_is_tried():
    assert set(ENCODERS) == set(ENCODINGS)


@pytest.mark.parametrize('encoding', ENCODERS)
def test_every_pixel_format_is_scored_as_its_colours_are(encoding, tmp_path, street, segmenter, evaluate):
    """Rows are tight in the first frame, and padded in the others."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    with rosbag2.Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as bag:
        topics = [bag.add_connection(topic, IMAGE, typestore=store) for topic in (TOPIC, TRUTH)]
        for index, (stamp_ns, image) in enumerate(zip(stamps(FRAMES), pictures(street, FRAMES))):
            raw = ENCODERS[encoding](np.ascontiguousarray(image))
            padding = 0 if encoding == 'nv24' else 6 * index  # its rows are of two lengths
            rows = np.pad(raw.reshape(len(raw), -1), ((0, 0), (0, padding)), constant_values=99)
            message = image_of(store.types, rows, stamp_ns, encoding)
            message.height, message.width, message.step = *image.shape[:2], rows.shape[1]
            cdr = store.serialize_cdr(message, IMAGE)
            bag.write(topics[0], stamp_ns, cdr)
            seen = rgb(parse_image(cdr))
            meant = cv2.cvtColor(gray(image), cv2.COLOR_GRAY2RGB) if encoding in GRAY else image
            lost = np.abs(seen.astype(int) - meant).mean()
            assert lost < 10, 'these are other colours'  # exchanged channels cost 48 and more
            message = image_of(store.types, segmenter.segment(seen).label, stamp_ns, 'mono8')
            bag.write(topics[1], stamp_ns, store.serialize_cdr(message, IMAGE))
    result = evaluate(tmp_path / 'bag')
    assert result['frames'] == FRAMES
    assert result['miou'] == 1


@pytest.mark.parametrize('form', FORMATS)
@pytest.mark.parametrize('encoding', ['png', 'jpg'])
def test_compressed_images_of_every_format_are_scored(form, encoding, tmp_path, street, segmenter, evaluate):
    images, when = pictures(street, FRAMES), stamps(FRAMES)
    stored = [cv2.imencode(f'.{encoding}', image[..., ::-1])[1] for image in images]
    seen = [cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1] for file in stored]
    truths = [segmenter.segment(np.ascontiguousarray(image)).label for image in seen]
    topics = {TOPIC: (encoding, list(zip(when, images))), TRUTH: ('mono8', list(zip(when, truths)))}
    result = evaluate(record(tmp_path / 'bag', topics, form))
    assert (result['frames'], result['miou']) == (FRAMES, 1)


def test_the_figures_equal_those_of_scikit_learn(tmp_path, street, segmenter, evaluate):
    metrics = pytest.importorskip('sklearn.metrics')
    images, when = pictures(street, FRAMES), stamps(FRAMES)
    labels = [segmenter.segment(image).label for image in images]
    random = np.random.default_rng(4)
    truths = [np.where(random.random(x.shape) < 0.7, x, random.integers(0, 3, x.shape)) for x in labels]
    truths = [np.where(random.random(x.shape) < 0.1, 255, x).astype(np.uint8) for x in truths]
    topics = {TOPIC: ('rgb8', list(zip(when, images))), TRUTH: ('mono8', list(zip(when, truths)))}
    result = evaluate(record(tmp_path / 'bag', topics))
    truth, label = np.concatenate([x.ravel() for x in truths]), np.concatenate([x.ravel() for x in labels])
    truth, label = truth[truth != 255], label[truth != 255]
    each = {'average': None, 'labels': [0, 1, 2]}
    ious = metrics.jaccard_score(truth, label, **each)
    assert list(result['per_class_iou'].values()) == pytest.approx(ious, abs=1e-12)
    assert result['miou'] == pytest.approx(metrics.jaccard_score(truth, label, average='macro'), abs=1e-12)
    weighted = metrics.jaccard_score(truth, label, average='weighted')
    assert result['frequency_weighted_iou'] == pytest.approx(weighted, abs=1e-12)
    assert result['pixel_accuracy'] == pytest.approx(metrics.accuracy_score(truth, label), abs=1e-12)
    balanced = metrics.balanced_accuracy_score(truth, label)
    assert result['mean_accuracy'] == pytest.approx(balanced, abs=1e-12)
    precision = metrics.precision_score(truth, label, **each)
    assert list(result['per_class_precision'].values()) == pytest.approx(precision, abs=1e-12)
    recall = metrics.recall_score(truth, label, **each)
    assert list(result['per_class_recall'].values()) == pytest.approx(recall, abs=1e-12)
    matrix = metrics.confusion_matrix(truth, label, labels=[0, 1, 2])
    assert np.array(result['confusion_matrix'])[:, :3].tolist() == matrix.tolist()


@pytest.mark.parametrize('kind', ['db3', 'ros1 lz4', 'mcap file'])
def test_of_a_bag_that_is_cut_what_is_left_is_scored_and_only_keep_going_makes_that_a_success(
    kind, tmp_path, segmenter, tiny_weights, capsys
):
    random, count = np.random.default_rng(1), 12
    images = [random.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(count)]  # compress badly
    truths = [np.flipud(segmenter.segment(image).label) for image in images]
    masks = tmp_path / 'masks'
    masks.mkdir()
    for stamp_ns, truth in zip(stamps(count), truths):
        write_label_png(masks / f'{stamp_ns}.png', truth)
    bag = record(tmp_path / 'bag', {TOPIC: ('rgb8', list(zip(stamps(count), images)))}, kind)
    file = bag if bag.is_file() else next(f for f in bag.iterdir() if f.name != 'metadata.yaml')
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 9 // 10])
    given = ['--weights', tiny_weights, '--engine', 'torch', '--precision', 'fp32', '--threads', 1]
    given += ['--bag', bag, '--labels', masks, '--json', tmp_path / 'result.json']
    results = []
    for extra, status in (([], 1), (['--keep-going'], 0)):
        assert main(['evaluate', *map(str, [*given, *extra])]) == status
        said = capsys.readouterr().err
        assert said.count(f'{bag} is damaged, ') == 1
        assert 'Traceback' not in said
        results.append(json.loads((tmp_path / 'result.json').read_text()))
    assert 6 <= results[0]['frames'] < count
    confusion = Confusion(3)
    for image, truth in list(zip(images, truths))[: results[0]['frames']]:
        confusion.update(segmenter.segment(image).label, truth)
    for result in results:
        assert result['confusion_matrix'] == confusion.counts.tolist()


@pytest.fixture
def qos():
    never = QosTime(9223372036, 854775807)
    return Qos(
        *(QosHistory.KEEP_LAST, 7, QosReliability.BEST_EFFORT, QosDurability.TRANSIENT_LOCAL),
        *(QosTime(0, 50_000_000), never, QosLiveliness.AUTOMATIC, never, False),
    )


def test_the_output_bag_offers_what_the_images_publisher_offered(tmp_path, street, qos, evaluate):
    store = get_typestore(Stores.ROS2_HUMBLE)
    with rosbag2.Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.SQLITE3) as bag:
        topic = bag.add_connection(TOPIC, IMAGE, typestore=store, offered_qos_profiles=[qos])
        truth = bag.add_connection(TRUTH, IMAGE, typestore=store)
        for stamp_ns, image in zip(stamps(FRAMES), pictures(street, FRAMES)):
            for connection, array, encoding in ((topic, image, 'rgb8'), (truth, image[..., 0] % 3, 'mono8')):
                message = image_of(store.types, array, stamp_ns, encoding)
                bag.write(connection, stamp_ns + 777, store.serialize_cdr(message, IMAGE))
    out = tmp_path / 'out.mcap'
    evaluate(tmp_path / 'bag', '--output-bag', out)
    with rosbag2.Reader(out) as bag:
        offered = {connection.topic: connection.ext.offered_qos_profiles for connection in bag.connections}
    assert offered == {f'/lw_refinenet/{name}': [qos] for name in ('label', 'overlay', 'confidence')}


def test_a_library_of_others_reads_every_message_of_the_output_bag(
    tmp_path, street, segmenter, qos, evaluate
):
    """The mcap project's own reader, which checks what rosbags' writer does; and its ROS 2 decoder."""
    reading = pytest.importorskip('mcap.reader')
    decoding = pytest.importorskip('mcap_ros2.decoder')
    images, when = pictures(street, FRAMES), stamps(FRAMES)
    truths = [np.zeros(image.shape[:2], np.uint8) for image in images]
    topics = {TOPIC: ('rgb8', list(zip(when, images))), TRUTH: ('mono8', list(zip(when, truths)))}
    out = tmp_path / 'out.mcap'
    evaluate(record(tmp_path / 'bag', topics), '--output-bag', out)
    with out.open('rb') as file:
        bag = reading.make_reader(file, validate_crcs=True, decoder_factories=[decoding.DecoderFactory()])
        assert bag.get_header().profile == 'ros2'
        summary = bag.get_summary()
        assert {chunk.compression for chunk in summary.chunk_indexes} == {'zstd'}
        assert [metadata.name for metadata in bag.iter_metadata()] == ['rosbag2']
        found = list(bag.iter_decoded_messages())
    assert summary.statistics.message_count == len(found) == 3 * FRAMES
    labels = {}
    for schema, channel, record_of, message in found:
        assert (schema.name, schema.encoding, channel.message_encoding) == (IMAGE, 'ros2msg', 'cdr')
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        assert record_of.log_time == record_of.publish_time == stamp_ns
        assert len(message.data) == message.step * message.height
        if channel.topic == '/lw_refinenet/label':
            labels[stamp_ns] = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
    for stamp_ns, image in zip(when, images):
        np.testing.assert_array_equal(labels[stamp_ns], segmenter.segment(image).label)


def test_of_a_video_without_a_readable_frame_the_damage_is_named(tmp_path, capsys, tiny_weights):
    video, masks = tmp_path / 'v.avi', tmp_path / 'masks'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 25, (64, 48))
    writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    content = video.read_bytes()
    first, last = content.index(b'\xff\xd8'), content.rindex(b'\xff\xd9')
    video.write_bytes(content[:first] + bytes(last - first) + content[last:])
    masks.mkdir()
    write_label_png(masks / f'{10**9}.png', np.zeros((48, 64), np.uint8))
    for command in (['evaluate', '--weights', tiny_weights], ['compare', tiny_weights, tiny_weights]):
        assert main([*map(str, command), '--bag', str(video), '--labels', str(masks)]) == 1
        assert f'{video} ends after frame 0 of 1: it is truncated' in capsys.readouterr().err
