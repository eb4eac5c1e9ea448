# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.evaluation.summary import percentiles

CLASSES = 5


def random_pair(seed, classes=CLASSES, shape=(37, 23)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    label = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape)).astype(np.uint8)
    label[rng.random(shape) < 0.1] = 255
    truth[rng.random(shape) < 0.1] = 255
    return label, truth


def filled(*pairs, classes=CLASSES):
    confusion = Confusion(classes)
    for label, truth in pairs:
        confusion.update(np.array(label, np.uint8), np.array(truth, np.uint8))
    return confusion


def counted_pixel_by_pixel(pairs, classes):
    matrix = np.zeros((classes, classes + 1), np.int64)
    for label, truth in pairs:
        for predicted, true in zip(label.ravel().tolist(), truth.ravel().tolist()):
            if true != 255:
                matrix[true, min(predicted, classes)] += 1
    return matrix


def test_the_matrix_equals_a_count_pixel_by_pixel_over_several_images():
    pairs = [random_pair(seed) for seed in range(3)]
    confusion = filled(*pairs)
    assert confusion.counts.dtype == np.int64
    np.testing.assert_array_equal(confusion.counts, counted_pixel_by_pixel(pairs, CLASSES))


def test_every_ratio_equals_its_definition_written_with_masks():
    label, truth = random_pair(7)
    label, truth = label[truth != 255], truth[truth != 255]
    confusion = filled((label[None], truth[None]))
    hit = [np.sum((label == c) & (truth == c)) for c in range(CLASSES)]
    either = [np.sum((label == c) | (truth == c)) for c in range(CLASSES)]
    iou = np.divide(hit, either)
    share = np.array([np.mean(truth == c) for c in range(CLASSES)])
    recall = [np.mean(label[truth == c] == c) for c in range(CLASSES)]
    np.testing.assert_allclose(confusion.iou, iou)
    np.testing.assert_allclose(confusion.recall, recall)
    np.testing.assert_allclose(confusion.precision, [np.mean(truth[label == c] == c) for c in range(CLASSES)])
    assert confusion.miou == pytest.approx(iou.mean())
    assert confusion.mean_accuracy == pytest.approx(np.mean(recall))
    assert confusion.pixel_accuracy == pytest.approx(np.mean(label == truth))
    assert confusion.frequency_weighted_iou == pytest.approx((share * iou).sum())


def test_the_ratios_equal_those_of_scikit_learn():
    metrics = pytest.importorskip('sklearn.metrics')
    label, truth = random_pair(3)
    confusion = filled((label, truth))
    known = truth != 255
    ids, averages = list(range(CLASSES)), {'average': None, 'labels': list(range(CLASSES))}
    np.testing.assert_allclose(confusion.iou, metrics.jaccard_score(truth[known], label[known], **averages))
    np.testing.assert_allclose(
        confusion.precision, metrics.precision_score(truth[known], label[known], **averages)
    )
    np.testing.assert_allclose(confusion.recall, metrics.recall_score(truth[known], label[known], **averages))
    np.testing.assert_array_equal(
        confusion.counts, metrics.confusion_matrix(truth[known], label[known], labels=[*ids, 255])[:CLASSES]
    )


@pytest.mark.filterwarnings('error')
def test_pixels_without_truth_do_not_count():
    confusion = filled(([[0, 1, 255]], [[255, 255, 255]]))
    assert confusion.counts.sum() == 0
    assert np.isnan(confusion.iou).all()
    assert np.isnan([confusion.miou, confusion.mean_accuracy, confusion.pixel_accuracy]).all()
    assert np.isnan(confusion.frequency_weighted_iou)


def test_an_unlabelled_prediction_misses_its_class_and_is_no_false_positive():
    confusion = filled(([[0, 255], [1, 1]], [[0, 0], [1, 1]]), classes=2)
    np.testing.assert_array_equal(confusion.iou, [0.5, 1])
    np.testing.assert_array_equal(confusion.precision, [1, 1])
    np.testing.assert_array_equal(confusion.recall, [0.5, 1])
    assert confusion.pixel_accuracy == 0.75


def test_a_class_that_occurs_nowhere_is_left_out_of_the_mean_and_one_only_predicted_is_not():
    confusion = filled(([[0, 0, 2, 2]], [[0, 0, 0, 0]]), classes=3)
    np.testing.assert_array_equal(confusion.iou, [0.5, np.nan, 0])
    assert confusion.miou == 0.25
    assert confusion.mean_accuracy == 0.5
    assert confusion.frequency_weighted_iou == 0.5


def test_all_255_classes_that_fit_in_8_bits_are_counted():
    ids = np.arange(255, dtype=np.uint8)[None]
    assert filled((ids, ids), classes=255).miou == 1


def test_more_pixels_than_a_float_counts_are_counted_exactly():
    ids = np.zeros((4097, 4097), np.uint8)  # 2 ** 24 and some, of an odd number
    assert filled((ids, ids), classes=1).counts[0, 0] == 4097**2


def test_an_image_without_pixels_counts_nothing():
    ids = np.zeros((0, 4), np.uint8)
    assert filled((ids, ids)).counts.sum() == 0


@pytest.mark.parametrize(
    ('label', 'truth', 'message'),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), r'\(2, 3\).*\(3, 2\)'),
        (np.zeros((1, 2), np.uint8), np.array([[0, 5]], np.uint8), 'truth holds id 5; there are 5 classes'),
        (np.array([[254, 0]], np.uint8), np.zeros((1, 2), np.uint8), 'label holds id 254'),
        (np.zeros((1, 2), np.int64), np.zeros((1, 2), np.uint8), 'label is int64'),
    ],
)
def test_images_that_do_not_fit_are_refused_whole_with_the_bad_value(label, truth, message):
    confusion = Confusion(CLASSES)
    with pytest.raises(ValueError, match=message):
        confusion.update(label, truth)
    assert confusion.counts.sum() == 0


@pytest.mark.parametrize('classes', [0, 256])
def test_a_number_of_classes_that_8_bits_cannot_hold_is_refused(classes):
    with pytest.raises(ValueError, match=f'num_classes is {classes}'):
        Confusion(classes)


def test_percentiles_are_interpolated_and_none_of_nothing():
    assert percentiles(range(101)) == {'p50': 50, 'p95': 95, 'p99': 99}
    assert percentiles([1, 2]) == pytest.approx({'p50': 1.5, 'p95': 1.95, 'p99': 1.99})
    assert percentiles([]) == {'p50': None, 'p95': None, 'p99': None}
