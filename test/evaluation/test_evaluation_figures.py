# SPDX-License-Identifier: Apache-2.0
"""Pairing, outlines, calibration and steadiness against their definitions, pixel by pixel."""

import copy
import math

import numpy as np
import pytest

from lw_refinenet_ros.evaluation.boundary import TOLERANCE, BoundaryScore
from lw_refinenet_ros.evaluation.calibration import BINS, Calibration
from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.frame_scores import FrameScore, WorstFrame
from lw_refinenet_ros.evaluation.pairing import pair_stamps
from lw_refinenet_ros.evaluation.stability import Stability
from lw_refinenet_ros.labels import LabelSet

CLASSES = 3


def patches(seed, shape=(40, 60)):
    """Patches of classes, with unlabelled ones."""
    import cv2

    ids = np.random.default_rng(seed).choice([0, 1, 2, 255], (5, 6), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    return cv2.resize(ids, shape[::-1], interpolation=cv2.INTER_NEAREST)


def outline(label, index):
    """Pixels of a class that touch another class, as a list of places."""
    height, width = label.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if label[y, x] == index
        and any(
            0 <= y + dy < height and 0 <= x + dx < width and label[y + dy, x + dx] not in (index, 255)
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
    ]


def near(ours, theirs, reach):
    return sum(any(math.dist(a, b) <= reach for b in theirs) for a in ours)


@pytest.mark.parametrize('tolerance', [0.001, 0.04, 0.15])  # 1, 3 and 11 pixels
def test_the_boundary_score_equals_its_definition_pixel_by_pixel_over_two_images(monkeypatch, tolerance):
    monkeypatch.setattr('lw_refinenet_ros.evaluation.boundary.TOLERANCE', tolerance)
    score = BoundaryScore(CLASSES)
    counts = np.zeros((4, CLASSES))
    for seed in (1, 2):
        truth = patches(seed)
        label = np.roll(truth, 2, axis=1)
        label[20:30, 10:50] = 1
        score.update(label, truth)
        known = np.where(truth == 255, 255, label)
        reach = max(1, round(tolerance * math.hypot(40, 60)))
        for index in range(CLASSES):
            ours, theirs = outline(known, index), outline(truth, index)
            counts[:, index] += near(ours, theirs, reach), len(ours), near(theirs, ours, reach), len(theirs)
    np.testing.assert_array_equal(score.counts, counts)
    precision, recall = counts[0] / counts[1], counts[2] / counts[3]
    np.testing.assert_allclose(score.f_score, 2 * precision * recall / (precision + recall))
    assert score.mean == pytest.approx(score.f_score.mean())
    assert 0.1 < score.mean < 1


def test_outlines_of_more_classes_than_a_word_has_bits_are_counted_as_those_of_few(monkeypatch):
    monkeypatch.setattr('lw_refinenet_ros.evaluation.boundary.TOLERANCE', 0.1)
    few, many = BoundaryScore(CLASSES), BoundaryScore(200)
    new_ids = np.array([3, 19, 199], np.uint8)
    for seed in (1, 2):
        truth = patches(seed)
        label = np.roll(truth, 5, axis=0)
        few.update(label, truth)
        many.update(*(np.where(ids == 255, 255, new_ids[ids % 3]).astype(np.uint8) for ids in (label, truth)))
    np.testing.assert_array_equal(many.counts[:, new_ids], few.counts)
    assert many.counts.sum() == few.counts.sum()


def test_an_outline_that_is_only_on_one_side_scores_0_and_one_on_none_is_left_out():
    score = BoundaryScore(CLASSES)
    label = np.zeros((20, 20), np.uint8)
    label[5:10, 5:10] = 1
    score.update(label, np.zeros((20, 20), np.uint8))
    np.testing.assert_array_equal(score.f_score, [0, 0, np.nan])
    assert TOLERANCE == 0.0075


def test_the_calibration_error_equals_its_definition_and_unlabelled_pixels_do_not_count():
    rng = np.random.default_rng(3)
    label, truth = patches(1), patches(2)
    confidence = rng.integers(0, 256, label.shape).astype(np.uint8)
    calibration = Calibration()
    calibration.update(label, truth, confidence)
    known = (label != 255) & (truth != 255)
    sure, right = confidence[known] / 255, (label == truth)[known]
    error = 0.0
    for index in range(BINS):
        chosen = (sure >= index / BINS) & ((sure < (index + 1) / BINS) | (index == BINS - 1))
        if chosen.any():
            error += chosen.mean() * abs(right[chosen].mean() - sure[chosen].mean())
    assert calibration.error == pytest.approx(error)
    assert sum(each.pixels for each in calibration.bins) == known.sum()
    assert np.isnan(Calibration().error)


def test_a_confidence_that_is_right_as_often_as_it_says_has_no_error():
    calibration = Calibration()
    truth = np.zeros((1, 255), np.uint8)
    label = (np.arange(255)[None] >= 204).astype(np.uint8)  # 204 of 255 are right
    calibration.update(label, truth, np.full((1, 255), 204, np.uint8))
    assert calibration.error == pytest.approx(0)


def measure(seeds):
    """All measures that compare a label with its truth, of some images."""
    measures = Confusion(CLASSES), BoundaryScore(CLASSES), Calibration()
    for seed in seeds:
        truth = patches(seed)
        label = np.roll(truth, seed, axis=1)
        for each in measures[:2]:
            each.update(label, truth)
        measures[2].update(label, truth, np.roll(label, 7, axis=0))
    return measures


def test_measures_of_parts_add_up_to_those_of_the_whole_and_come_back_from_arrays_as_they_were():
    for part, rest, whole in zip(measure([1]), measure([2, 3]), measure([1, 2, 3])):
        restored = copy.deepcopy(part)
        restored.restore({name: values.copy() for name, values in rest.to_arrays().items()})
        part += restored
        assert whole.counts.any()
        np.testing.assert_array_equal(part.counts, whole.counts)
        with pytest.raises(ValueError, match=r'counts of shape \(2,\), not'):
            part.restore({'counts': np.zeros(2, np.int64)})


def test_an_evaluation_comes_back_from_its_arrays_and_goes_on_counting():
    labels = LabelSet('three', ('sky', 'road', 'car'), ((0, 0, 1), (0, 0, 2), (0, 0, 3)))
    whole, first, second = (Evaluation(labels, 'drive', True, most_worst=1) for _ in range(3))
    picture = np.zeros((2, 3, 3), np.uint8)
    for index in range(4):
        if index == 2:
            stored = first.to_arrays()
            second.restore(stored)
        for each in (whole, second if index >= 2 else first):
            score = FrameScore(f'{index}', 10**18 + index, 2.0 * index, (5 - index, 0, 0), (9, 0, 0))
            each.frames.append(score)
            each.time('decode', 1.5 * index)
            each.problems.add(f'problem {index}')
            each.position, each.first_ns = index + 1, 10**18
            assert each.worst.want(score, index)
            each.worst.keep(WorstFrame(score, index, picture, picture[..., 0], picture[..., 1], None))
    assert list(second.frames) == list(whole.frames)
    assert second.problems.first == whole.problems.first == [f'problem {index}' for index in range(4)]
    assert (second.position, second.first_ns, second.stages_ms) == (4, 10**18, whole.stages_ms)
    assert [frame.key for frame in second.worst] == [frame.key for frame in whole.worst] == [(2 / 9, 3)]
    with pytest.raises(KeyError, match='times_s'):
        second.restore({name: values for name, values in stored.items() if name != 'frames/times_s'})


def test_steadiness_goes_on_where_it_was_stored():
    labels = [np.array([row], np.uint8) for row in ([0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 2])]
    whole, first, second = Stability(), Stability(), Stability()
    for index, label in enumerate(labels):
        if index == 2:
            second.restore(first.to_arrays())
        for each in (whole, second if index == 2 else first):
            each.update(index * 100_000_000, label)
    np.testing.assert_array_equal(second.counts, whole.counts)
    assert second.flicker == pytest.approx(1 / 4)


def test_steadiness_counts_what_stays_and_what_comes_back():
    stability = Stability()
    a, b, c = (np.array([row], np.uint8) for row in ([0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 2]))
    for index, label in enumerate((a, b, c)):
        stability.update(1 + index * 100_000_000, label)
    assert stability.consistency == pytest.approx((2 + 2) / 8)
    assert stability.flicker == pytest.approx(1 / 4)
    assert stability.pairs == 2


def test_frames_after_a_gap_or_of_another_size_or_before_are_not_consecutive():
    stability = Stability()
    small, large = np.zeros((1, 4), np.uint8), np.zeros((2, 4), np.uint8)
    for stamp_ns, label in ((10**9, small), (2 * 10**9, small), (2 * 10**9 + 10**8, large), (10**9, large)):
        stability.update(stamp_ns, label)
    assert (stability.pairs, stability.consistency, stability.flicker) == (0, None, None)


@pytest.mark.parametrize(('gap_ns', 'pairs'), [(500_000_000, 1), (500_000_001, 0), (0, 0)])
def test_frames_of_two_a_second_are_consecutive_and_later_or_repeated_ones_are_not(gap_ns, pairs):
    stability = Stability()
    for stamp_ns in (10**9, 10**9 + gap_ns):
        stability.update(stamp_ns, np.zeros((1, 4), np.uint8))
    assert stability.pairs == pairs


def test_each_frame_gets_its_nearest_mask_once_and_the_rest_is_told():
    pairing = pair_stamps([0, 100, 200, 300], [4, 96, 109, 500], 10)
    assert pairing.partners == {0: 4, 100: 96}
    assert pairing.frames_alone == (200, 300)
    assert pairing.masks_alone == (109, 500)


def test_the_tolerance_is_inclusive_and_order_and_repeats_do_not_matter():
    assert pair_stamps([200, 0, 200], [210, 11, 210], 10).partners == {200: 210}
    assert pair_stamps([200, 0], [210, 11], 11).partners == {200: 210, 0: 11}
    stamps = [1_700_000_000_123_456_789 + i for i in range(3)]
    assert pair_stamps(stamps, stamps, 0).partners == {stamp: stamp for stamp in stamps}
    assert pair_stamps([], [1], 10).masks_alone == (1,)
    assert pair_stamps([1], [], 10).frames_alone == (1,)


def test_the_nearest_mask_within_the_tolerance_is_found_as_a_search_of_all_finds_it():
    rng = np.random.default_rng(1)
    frames, masks = (np.unique(rng.integers(0, 10_000, 200)).tolist() for _ in range(2))
    wanted = {}
    for frame in frames:
        mask = min(masks, key=lambda m: (abs(m - frame), m))
        if abs(mask - frame) <= 15 and min(frames, key=lambda f: (abs(f - mask), f)) == frame:
            wanted[frame] = mask
    assert pair_stamps(frames, masks, 15).partners == wanted
