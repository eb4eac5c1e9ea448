# SPDX-License-Identifier: Apache-2.0
"""`lw_refinenet evaluate` on bags and folders of every kind."""

import itertools
import json
import shutil
import subprocess
import sys
import unicodedata

import cv2
import numpy as np
import pytest
from rosbags import rosbag2
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.evaluation.masks import find_masks
from lw_refinenet_ros.image.encodings import rgb
from lw_refinenet_ros.image.label_png import write_label_png
from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.source import SourceError
from test.support.recordings import IMAGE, KINDS, image_of, pictures, record, stamps

FRAMES = 5
TOPIC, TRUTH = '/front/image', '/front/truth'


@pytest.fixture(scope='module')
def segmenter(tiny_weights):
    return Segmenter.load(str(tiny_weights), engine='torch', precision='fp32', threads=1)


@pytest.fixture
def images(street):
    return pictures(street, FRAMES)


@pytest.fixture
def labels(images, segmenter):
    return [segmenter.segment(image).label for image in images]


@pytest.fixture
def truths(labels):
    """Wrong in a corner, which differs from frame to frame, and unlabelled in another."""
    found = [label.copy() for label in labels]
    for index, truth in enumerate(found):
        truth[: 10 + 5 * index, :40] = (truth[: 10 + 5 * index, :40] + 1) % 3
        truth[-10:, -10:] = 255
    return found


@pytest.fixture
def evaluate(tmp_path, tiny_weights, capsys):
    """Run the command; return its exit code, its --json (None if not written) and what it said."""

    def run(*arguments):
        path = tmp_path / 'result.json'
        path.unlink(missing_ok=True)
        common = ['--weights', tiny_weights, '--engine', 'torch', '--precision', 'fp32']
        common += ['--threads', 1, '--json', path]
        status = main(['evaluate', *map(str, [*arguments, *common])])
        said = capsys.readouterr()
        assert 'Traceback' not in said.err
        complaints = [line for line in said.err.splitlines() if line.startswith('lw_refinenet: ')]
        assert len(complaints) == (1 if status else 0)
        return status, json.loads(path.read_text()) if path.exists() else None, said.err

    return run


def bag_of(path, images, truths, kind='mcap', encoding='rgb8', shift_ns=0):
    when = stamps(len(images))
    masks = [(stamp_ns + shift_ns, truth) for stamp_ns, truth in zip(when, truths)]
    return record(path, {TOPIC: (encoding, list(zip(when, images))), TRUTH: ('mono8', masks)}, kind)


def masks_of(folder, truths, shift_ns=0):
    folder.mkdir()
    for stamp_ns, truth in zip(stamps(len(truths)), truths):
        write_label_png(folder / f'{stamp_ns + shift_ns}.png', truth)
    return folder


def expected(labels, truths):
    confusion = Confusion(3)
    for label, truth in zip(labels, truths):
        confusion.update(label, truth)
    return confusion


def without_clock(result):
    return {k: v for k, v in result.items() if k not in ('latency_ms', 'stages_ms', 'conditions')}


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_of_bag_gives_the_confusion_of_the_segmenters_own_labels(
    kind, tmp_path, images, labels, truths, evaluate
):
    bag = bag_of(tmp_path / 'bag', images, truths, kind)
    status, result, said = evaluate('--bag', bag, '--labels', TRUTH)
    assert status == 0, said
    wanted = expected(labels, truths)
    assert result['confusion_matrix'] == wanted.counts.tolist()
    assert result['miou'] == wanted.miou
    assert result['frames'] == result['frames_segmented'] == FRAMES
    assert 0 < result['miou'] < 1
    assert result['per_frame']['stamp_ns'] == stamps(FRAMES)
    assert np.sum(result['per_frame']['intersection'], axis=0).tolist() == wanted.intersection.tolist()
    assert np.sum(result['per_frame']['union'], axis=0).tolist() == wanted.union.tolist()
    assert set(result['stages_ms']) == {'decode', 'inference', 'inference_with_confidence', 'score'}
    assert result['latency_ms'] == result['stages_ms']['inference']


def test_compressed_images_and_masks_in_a_folder_give_the_same(tmp_path, images, truths, evaluate):
    plain = bag_of(tmp_path / 'plain', images, truths)
    _, first, _ = evaluate('--bag', plain, '--labels', TRUTH)
    compressed = record(tmp_path / 'png', {TOPIC: ('png', list(zip(stamps(FRAMES), images)))}, 'db3')
    status, second, said = evaluate('--bag', compressed, '--labels', masks_of(tmp_path / 'masks', truths))
    assert status == 0, said
    assert without_clock(second) == without_clock(first)


def test_a_folder_of_images_takes_the_same_path(tmp_path, images, labels, truths, evaluate):
    import cv2

    (tmp_path / 'images').mkdir()
    for stamp_ns, image in zip(stamps(FRAMES), images):
        cv2.imwrite(str(tmp_path / 'images' / f'{stamp_ns}.png'), image[..., ::-1])
    masks = masks_of(tmp_path / 'masks', truths)
    status, result, said = evaluate('--images', tmp_path / 'images', '--labels', masks)
    assert status == 0, said
    assert result['confusion_matrix'] == expected(labels, truths).counts.tolist()
    assert result['temporal'] == {'consistency': None, 'flicker': None, 'pairs': 0}
    next(masks.iterdir()).unlink()
    status, result, said = evaluate('--images', tmp_path / 'images', '--labels', masks)
    assert status == 1
    assert 'has no mask; the rest was scored' in said
    assert result['frames'] == FRAMES - 1


def test_masks_with_a_capital_suffix_are_found_beside_images_and_bags(
    tmp_path, images, labels, truths, evaluate
):
    import cv2

    (tmp_path / 'images').mkdir()
    for stamp_ns, image in zip(stamps(FRAMES), images):
        cv2.imwrite(str(tmp_path / 'images' / f'{stamp_ns}.png'), image[..., ::-1])
    masks = masks_of(tmp_path / 'masks', truths)
    for path in list(masks.iterdir()):
        path.rename(path.with_suffix('.PNG'))
    bag = bag_of(tmp_path / 'bag', images, truths)
    for frames in (('--images', tmp_path / 'images'), ('--bag', bag, '--topic', TOPIC)):
        status, result, said = evaluate(*frames, '--labels', masks)
        assert status == 0, said
        assert result['confusion_matrix'] == expected(labels, truths).counts.tolist()
    write_label_png(masks / f'{stamps(FRAMES)[0]}.png', truths[0])
    status, _, said = evaluate('--images', tmp_path / 'images', '--labels', masks)
    assert status == 1
    assert f'{stamps(FRAMES)[0]}.PNG and {stamps(FRAMES)[0]}.png have one image: move all but one' in said


def test_a_name_is_the_same_in_whichever_form_its_umlauts_are_stored(tmp_path, images, truths, evaluate):
    import cv2

    image, mask = (unicodedata.normalize(form, 'Straße_für.png') for form in ('NFD', 'NFC'))
    for name in ('images', 'masks'):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / 'images' / image), images[0])
    write_label_png(tmp_path / 'masks' / mask, truths[0])
    status, result, said = evaluate('--images', tmp_path / 'images', '--labels', tmp_path / 'masks')
    assert status == 0, said
    assert result['frames'] == 1


def test_two_images_of_one_mask_are_refused(tmp_path, images, truths, evaluate):
    import cv2

    masks, folder = masks_of(tmp_path / 'masks', truths), tmp_path / 'images'
    folder.mkdir()
    for stamp_ns in stamps(FRAMES)[:2]:
        cv2.imwrite(str(folder / f'{stamp_ns}.jpg'), images[0])
        cv2.imwrite(str(folder / f'{stamp_ns}.png'), np.zeros((96, 128), np.uint16))
    cv2.imwrite(str(folder / 'a.png'), images[0])
    status, _, said = evaluate('--images', folder, '--labels', masks)
    assert status == 1
    first = stamps(FRAMES)[0]
    assert f'{folder}: {first}.jpg and {first}.png (and 1 more) have one mask: move all but one away' in said


def test_masks_beside_their_images_or_of_other_names_are_for_another_command(
    tmp_path, images, truths, evaluate
):
    import cv2

    remedy = 'lw_refinenet label --from-masks converts masks of other names or beside their images'
    cv2.imwrite(str(tmp_path / 'a.jpg'), images[0])
    write_label_png(tmp_path / 'a.png', truths[0])
    (tmp_path / 'masks').mkdir()
    write_label_png(tmp_path / 'masks' / 'a_mask.png', truths[0])
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / 'a.jpg'), images[0])
    said = evaluate('--images', tmp_path / 'images', '--labels', tmp_path / 'masks')[2]
    assert f'{tmp_path}/masks has no mask NAME.png of the 1 image of {tmp_path}/images: {remedy}' in said
    said = evaluate('--images', tmp_path, '--labels', tmp_path)[2]
    assert f'{tmp_path}: a.jpg and a.png have one mask: {remedy}' in said


def test_a_second_run_is_identical_to_the_bit_in_figures_and_in_labels(tmp_path, images, truths, evaluate):
    bag = bag_of(tmp_path / 'bag', images, truths)
    runs = []
    for _ in range(2):
        _, result, _ = evaluate('--bag', bag, '--labels', TRUTH, '--output-bag', tmp_path / 'out.mcap')
        runs.append((without_clock(result), (tmp_path / 'out.mcap').read_bytes()))
    assert runs[0] == runs[1]


def test_the_output_bag_has_labels_overlays_and_confidence_at_the_original_stamps(
    tmp_path, images, truths, evaluate, segmenter
):
    bag = bag_of(tmp_path / 'bag', images, truths)
    evaluate('--bag', bag, '--labels', TRUTH, '--output-bag', tmp_path / 'out.mcap')
    for output in ('label', 'overlay', 'confidence'):
        with open_source(tmp_path / 'out.mcap', topic=f'/lw_refinenet/{output}') as source:
            frames = list(source)
        assert [(f.stamp_ns, f.frame_id) for f in frames] == [(s, 'front') for s in stamps(FRAMES)]
        for frame, image in zip(frames, images):
            result = segmenter.segment(image, confidence=True)
            wanted = result.overlay(0.5) if output == 'overlay' else getattr(result, output)
            shown = rgb(frame) if output == 'overlay' else frame.data.reshape(wanted.shape)
            np.testing.assert_array_equal(shown, wanted)


def test_frames_and_masks_are_paired_within_the_tolerance_and_others_are_named(
    tmp_path, images, labels, truths, evaluate
):
    bag = bag_of(tmp_path / 'bag', images, truths, shift_ns=4_000_000)
    assert evaluate('--bag', bag, '--labels', TRUTH)[1]['frames'] == FRAMES
    status, result, said = evaluate('--bag', bag, '--labels', TRUTH, '--tolerance', '0.003')
    assert (status, result) == (1, None)
    assert 'within 0.003 s: the nearest are 0.004 s apart' in said
    masks = masks_of(tmp_path / 'masks', truths)
    shutil.move(masks / f'{stamps(1)[0]}.png', masks / '1234567890123456789.png')
    status, result, _ = evaluate('--bag', bag, '--topic', TOPIC, '--labels', masks)
    assert status == 0
    assert result['unpaired'] == {
        'frames': {'count': 1, 'first': [str(stamps(1)[0])]},
        'masks': {'count': 1, 'first': ['1234567890123456789']},
    }
    assert (result['frames'], result['frames_segmented']) == (FRAMES - 1, FRAMES)
    assert result['confusion_matrix'] == expected(labels[1:], truths[1:]).counts.tolist()


def test_masks_that_were_logged_in_another_order_still_meet_their_frames(
    tmp_path, images, labels, truths, evaluate
):
    store = get_typestore(Stores.ROS2_HUMBLE)
    with rosbag2.Writer(tmp_path / 'x', version=8, storage_plugin=StoragePlugin.MCAP) as bag:
        for topic, encoding, arrays, logged in (
            (TOPIC, 'rgb8', images, stamps(FRAMES)),
            (TRUTH, 'mono8', truths, stamps(FRAMES)[::-1]),
        ):
            connection = bag.add_connection(topic, IMAGE, typestore=store)
            for stamp_ns, array, log_ns in zip(stamps(FRAMES), arrays, logged):
                message = image_of(store.types, array, stamp_ns, encoding)
                bag.write(connection, log_ns, store.serialize_cdr(message, IMAGE))
    _, result, _ = evaluate('--bag', tmp_path / 'x', '--labels', TRUTH)
    assert result['confusion_matrix'] == expected(labels, truths).counts.tolist()


def test_steady_labels_are_measured_between_consecutive_frames(tmp_path, images, truths, labels, evaluate):
    bag = bag_of(tmp_path / 'bag', images, truths)
    _, result, _ = evaluate('--bag', bag, '--labels', TRUTH)
    same = [np.mean(a == b) for a, b in itertools.pairwise(labels)]
    assert result['temporal']['pairs'] == FRAMES - 1
    assert result['temporal']['consistency'] == pytest.approx(np.mean(same))
    back = [np.mean((a == c) & (a != b)) for a, b, c in zip(labels, labels[1:], labels[2:])]
    assert result['temporal']['flicker'] == pytest.approx(np.mean(back))


def cut(bag, share):
    file = next(path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3'))
    bare = bag.parent / f'cut{file.suffix}'
    bare.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    return bare


@pytest.mark.parametrize('share', [0.5, 0.97])
def test_of_a_bag_cut_anywhere_what_is_left_is_scored(share, tmp_path, street, segmenter, evaluate):
    images = [np.tile(image, (3, 3, 1)) for image in pictures(street, 8)]  # large enough for several chunks
    truths = [segmenter.segment(image[::-1]).label for image in images]
    bare = cut(bag_of(tmp_path / 'bag', images, truths), share)
    arguments = ['--bag', bare, '--labels', masks_of(tmp_path / 'masks', truths), '--topic', TOPIC]
    status, result, said = evaluate(*arguments)
    assert status == 1
    assert 'cut.mcap is damaged, ' in said
    assert f' messages of {TOPIC} could be read: ' in said
    status, kept, said = evaluate(*arguments, '--keep-going')
    assert status == 0
    assert 'skipped: ' in said
    assert without_clock(kept) == without_clock(result)
    count = kept['frames']
    assert count == 8 if share == 0.97 else 2 <= count < 8, 'near the end only the index is cut off'
    labels = [segmenter.segment(image).label for image in images[:count]]
    assert kept['confusion_matrix'] == expected(labels, truths).counts.tolist()


def test_a_topic_that_does_not_exist_is_answered_with_those_that_do(tmp_path, images, truths, evaluate):
    bag = bag_of(tmp_path / 'bag', images, truths)
    for arguments in (['--labels', '/nowhere', '--topic', TOPIC], ['--labels', TRUTH, '--topic', '/nowhere']):
        status, result, said = evaluate('--bag', bag, *arguments, '--keep-going')
        assert (status, result) == (1, None)
        assert f"has no image topic '/nowhere': its image topics are {TOPIC}, {TRUTH}" in said
        of_masks = arguments[1] == '/nowhere'
        assert ('; --labels also takes a folder of masks STAMP_NS.png' in said) == of_masks
        assert 'lw_refinenet_efficientnet_lite0 on' not in said, 'an engine was loaded for nothing'
    status, _, said = evaluate('--bag', bag, '--labels', '/nowhere')
    assert f"has no image topic '/nowhere': its image topics are {TOPIC}, {TRUTH}" in said


@pytest.mark.parametrize(
    ('arguments', 'chosen'),
    [
        (['--every', 2], [0, 2, 4]),
        (['--start', 0.1, '--end', 0.4], [1, 2, 3]),
        (['--start', 0.1, '--every', 3], [1, 4]),
    ],
)
def test_only_the_chosen_frames_are_scored(tmp_path, images, labels, truths, evaluate, arguments, chosen):
    bag = bag_of(tmp_path / 'bag', images, truths)
    status, result, said = evaluate('--bag', bag, '--labels', TRUTH, *arguments)
    assert status == 0, said
    assert result['per_frame']['stamp_ns'] == [stamps(FRAMES)[index] for index in chosen]
    assert result['frames_segmented'] == len(chosen)
    assert [of['count'] for of in result['unpaired'].values()] == [0, 0]
    assert 'evaluated' not in said
    assert f'frames read {chosen[-1] + 1}/{chosen[-1] + 1}\n' in said
    wanted = expected([labels[index] for index in chosen], [truths[index] for index in chosen])
    assert result['confusion_matrix'] == wanted.counts.tolist()


def test_a_choice_without_a_frame_is_said_with_how_many_there_are(tmp_path, images, truths, evaluate):
    bag = bag_of(tmp_path / 'bag', images, truths)
    status, result, said = evaluate('--bag', bag, '--labels', TRUTH, '--start', 60)
    assert (status, result) == (1, None)
    assert f'topic {TOPIC} has no frame, from 60 s: it has {FRAMES} frames' in said


def test_images_and_masks_of_one_topic_are_refused(tmp_path, images, truths, evaluate):
    bag = bag_of(tmp_path / 'bag', images, truths)
    status, _, said = evaluate('--bag', bag, '--labels', TRUTH, '--topic', TRUTH)
    assert status == 2
    assert f'--topic and --labels are both {TRUTH}' in said


def test_a_folder_of_masks_that_is_not_there_is_named(tmp_path, evaluate):
    status, _, said = evaluate('--images', tmp_path, '--labels', tmp_path / 'nolabels')
    assert status == 1
    assert f'--labels {tmp_path}/nolabels does not exist' in said


def test_the_folder_above_the_images_is_answered_with_theirs(tmp_path, images, truths, evaluate):
    masks = masks_of(tmp_path / 'labels', truths)
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / 'a.png'), images[0])
    status, _, said = evaluate('--images', tmp_path, '--labels', masks)
    assert status == 1
    assert f'{tmp_path} has no images, but folders: name one, such as {tmp_path}/images\n' in said


def test_frames_and_masks_that_cannot_be_used_are_named_and_the_rest_is_scored(
    tmp_path, images, labels, truths, evaluate
):
    when = stamps(FRAMES)
    bag = record(tmp_path / 'bag', {TOPIC: ('rgb8', list(zip(when[1:], images[1:])))})
    masks = masks_of(tmp_path / 'masks', truths)
    write_label_png(masks / f'{when[1]}.png', truths[1][:50])
    write_label_png(masks / f'{when[2]}.png', np.full_like(truths[2], 77))
    (masks / f'{when[3]}.png').write_bytes(b'no PNG')
    status, result, said = evaluate('--bag', bag, '--labels', masks, '--keep-going')
    assert status == 0, said
    assert result['problems']['count'] == 3
    one, two, three = result['problems']['first']
    assert f'mask of {when[1]} is 128x50 and its frame 128x96: give one of its size' in one
    assert f'mask of {when[2]}: the truth holds id 77; there are 3 classes' in two
    assert f'{when[3]}.png: not a PNG file' in three
    assert result['confusion_matrix'] == expected(labels[4:], truths[4:]).counts.tolist()
    strange = record(tmp_path / 'strange', {TOPIC: ('32FC1', list(zip(when, images)))})
    status, result, said = evaluate('--bag', strange, '--labels', masks, '--keep-going')
    assert (status, result) == (1, None)
    assert f"frame of stamp {when[0]}: encoding '32FC1' is not supported" in said


def test_masks_of_another_encoding_or_another_name_are_refused(tmp_path, images, truths, evaluate):
    when = stamps(FRAMES)
    topics = {TOPIC: ('rgb8', list(zip(when, images))), TRUTH: ('bgr8', list(zip(when, images)))}
    status, _, said = evaluate('--bag', record(tmp_path / 'bag', topics), '--labels', TRUTH)
    assert status == 1
    assert "is 'bgr8' of step 384 and width 128: mono8 of class ids is needed" in said
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'masks' / 'frame1.png').touch()
    status, _, said = evaluate('--bag', tmp_path / 'bag', '--topic', TOPIC, '--labels', tmp_path / 'masks')
    assert status == 1
    assert 'masks of a bag are named STAMP_NS.png' in said


def test_a_stamp_that_comes_again_is_scored_once_and_told(tmp_path, images, labels, truths, evaluate):
    when = stamps(FRAMES)
    frames = list(zip([*when[:-1], when[0]], images))
    bag = record(tmp_path / 'bag', {TOPIC: ('rgb8', frames), TRUTH: ('mono8', list(zip(when, truths)))})
    status, result, said = evaluate('--bag', bag, '--labels', TRUTH)
    assert status == 1
    assert f'the stamp {when[0]} ns repeats' in said
    assert result['confusion_matrix'] == expected(labels[:-1], truths[:-1]).counts.tolist()


# The disk is found full only after it was looked at.
FILLING = """
import resource, sys
from lw_refinenet_ros.cli import main, outputs
check = outputs.check_outputs
def check_and_fill(*arguments):
    check(*arguments)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
outputs.check_outputs = check_and_fill
sys.exit(main.main())
"""


@pytest.mark.parametrize('output', ['--json', '--output-bag', '--report'])
def test_a_full_disk_is_one_line_and_leaves_no_half_file(output, tmp_path, images, truths, tiny_weights):
    bag = bag_of(tmp_path / 'bag', images, truths)
    suffix = {'--json': 'json', '--output-bag': 'mcap', '--report': 'html'}[output]
    (tmp_path / 'out').mkdir()
    path = tmp_path / 'out' / f'result.{suffix}'
    if output == '--json':
        path.write_text('{\n  "miou": 0.5\n}\n')  # of an earlier run
    before = path.read_text() if path.exists() else None
    command = [sys.executable, '-c', FILLING, 'evaluate', '--bag', bag, '--labels', TRUTH]
    done = subprocess.run(
        [*command, '--weights', tiny_weights, '--threads', '1', output, path], capture_output=True, text=True
    )
    assert done.returncode == 1
    (complaint,) = [line for line in done.stderr.splitlines() if line.startswith('lw_refinenet: ')]
    assert 'File too large' in complaint
    assert str(path) in complaint
    assert 'Traceback' not in done.stderr
    assert ('\nmIoU ' in done.stdout) == (output != '--output-bag'), 'what was done is shown'
    assert [file.name for file in path.parent.iterdir()] == ([path.name] if before else [])
    assert before is None or path.read_text() == before


def test_outputs_that_cannot_be_written_are_refused_before_the_work(tmp_path, images, truths, evaluate):
    bag = bag_of(tmp_path / 'bag', images, truths)
    (tmp_path / 'no').write_text('')
    status, _, said = evaluate('--bag', bag, '--labels', TRUTH, '--report', tmp_path / 'no' / 'x.html')
    assert status == 1
    assert 'Not a directory' in said
    assert 'evaluated' not in said


def test_decoding_runs_ahead_of_inference_by_a_bounded_number_of_frames():
    """A counter of what is alive proves that memory does not grow with the bag."""
    import threading

    from lw_refinenet_ros.evaluation.prefetch import DEPTH, prefetched

    made, taken, most = 0, 0, 0
    ahead = threading.Event()

    def items():
        nonlocal made, most
        for _ in range(50):
            made += 1
            most = max(most, made - taken)
            if made - taken > 1:
                ahead.set()
            yield threading.get_ident()

    stream = prefetched(items())
    for thread in stream:
        assert thread != threading.get_ident()
        assert taken >= 49 or ahead.wait(10), 'nothing is read ahead'
        taken += 1
    assert taken == 50
    assert most <= DEPTH + 2
    before, made, taken = threading.active_count(), 0, 0
    stream = prefetched(items())
    next(stream)
    stream.close()
    assert threading.active_count() == before, 'the thread outlives its reader'
    assert made < 10, 'the rest is read for nobody'


def test_masks_of_a_compressed_topic_are_read_exactly(tmp_path, images, truths, evaluate):
    plain = bag_of(tmp_path / 'plain', images, truths)
    _, first, _ = evaluate('--bag', plain, '--labels', TRUTH)
    when = stamps(FRAMES)
    topics = {TOPIC: ('rgb8', list(zip(when, images))), TRUTH: ('png', list(zip(when, truths)))}
    status, second, said = evaluate('--bag', record(tmp_path / 'png', topics), '--labels', TRUTH)
    assert status == 0, said
    assert second['confusion_matrix'] == first['confusion_matrix']
    assert second['frames'] == FRAMES


def test_masks_that_are_all_unlabelled_are_no_result(tmp_path, images, evaluate):
    when = stamps(FRAMES)
    nothing = [np.full(image.shape[:2], 255, np.uint8) for image in images]
    topics = {TOPIC: ('rgb8', list(zip(when, images))), TRUTH: ('mono8', list(zip(when, nothing)))}
    status, result, said = evaluate('--bag', record(tmp_path / 'bag', topics), '--labels', TRUTH)
    assert (status, result) == (1, None)
    assert f'nothing could be scored: every pixel of {FRAMES} masks is 255' in said


@pytest.mark.parametrize(
    ('names', 'said'),
    [
        (['1000.png', '20261126120000000000000.png'], '1 PNG named otherwise: 2026'),
        (['1000.png', '01000.png'], 'two masks of one stamp'),
    ],
)
def test_masks_whose_names_are_no_stamps_of_their_own_are_refused(tmp_path, names, said):
    for name in names:
        (tmp_path / name).write_bytes(b'')
    with pytest.raises(SourceError, match=said):
        find_masks(tmp_path)
