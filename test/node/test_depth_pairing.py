# SPDX-License-Identifier: Apache-2.0
"""Which depth belongs to which image, decided by their stamps alone."""

import pytest

from lw_refinenet_ros.node.depth_pairing import KEPT, TOLERANCE_NS, DepthPairing

PERIOD_NS = 33_000_000


def test_an_image_and_its_depth_pair_in_either_order():
    pairing = DepthPairing()
    assert not pairing.add_depth(100, 'depth of 100')
    pairing.add_result(100, 'image of 100')
    assert pairing.pop_pairs() == [('image of 100', 'depth of 100')]
    pairing.add_result(200 + PERIOD_NS, 'image of 200')
    assert pairing.pop_pairs() == []
    assert pairing.add_depth(200 + PERIOD_NS, 'depth of 200'), 'the image waits for it'
    assert pairing.pop_pairs() == [('image of 200', 'depth of 200')]
    assert pairing.pop_pairs() == []
    pairing.add_result(200 + PERIOD_NS, 'image of 200, sent again')
    assert pairing.pop_pairs() == [('image of 200, sent again', 'depth of 200')]


@pytest.mark.parametrize(('apart_ns', 'pairs'), [(TOLERANCE_NS, 1), (TOLERANCE_NS + 1, 0)])
def test_stamps_may_differ_by_the_tolerance_and_the_nearest_wins(apart_ns, pairs):
    pairing = DepthPairing()
    pairing.add_depth(-apart_ns - 1, 'farther')
    pairing.add_depth(apart_ns, 'nearer')
    pairing.add_result(0, 'image')
    assert pairing.pop_pairs() == [('image', 'nearer')] * pairs


def test_the_depth_of_an_image_in_progress_is_kept_and_other_old_ones_are_not():
    pairing = DepthPairing()
    pairing.expect(0)
    for index in range(3 * KEPT):
        pairing.add_depth(index * PERIOD_NS, index)
    for stamp_ns in (0, PERIOD_NS, 2 * KEPT * PERIOD_NS):
        pairing.add_result(stamp_ns, stamp_ns)
    assert pairing.pop_pairs() == [(0, 0), (2 * KEPT * PERIOD_NS, 2 * KEPT)]


def test_a_result_without_depth_is_given_up_and_the_distance_to_the_nearest_told():
    pairing = DepthPairing()
    assert [pairing.add_result(index * PERIOD_NS, index) for index in range(KEPT)] == [[]] * KEPT
    assert pairing.add_result(KEPT * PERIOD_NS, KEPT) == [None]
    pairing.add_depth(PERIOD_NS - 2 * TOLERANCE_NS, 'depth')
    assert pairing.add_result((KEPT + 1) * PERIOD_NS, KEPT + 1) == [2 * TOLERANCE_NS]


def test_a_result_that_had_its_depth_is_not_given_up_for_want_of_one_and_one_that_comes_again_may_be():
    pairing, tolerance_ns = DepthPairing(), 50_000_000
    for index in range(3 * KEPT):
        pairing.add_depth(index * PERIOD_NS, index)
        assert pairing.add_result(index * PERIOD_NS, index) == []
        assert pairing.pop_pairs(tolerance_ns) == [(index, index)]
        assert len(pairing._used) <= KEPT, 'stamps that are of no use any more are forgotten'
    pairing.clear_depths()
    for index in range(2 * KEPT, 3 * KEPT):  # the images come again, as in a loop, but not their depths
        assert pairing.add_result(index * PERIOD_NS, index) == []
    assert pairing.add_result(3 * KEPT * PERIOD_NS, 'next') == [None]


def test_a_result_is_let_go_with_its_depth_where_no_other_can_be_as_near():
    pairing = DepthPairing()
    pairing.add_result(0, 'image')
    assert pairing.add_depth(TOLERANCE_NS, 'depth')
    assert pairing.pop_pairs() == [('image', 'depth')]
    assert not pairing.add_depth(PERIOD_NS, 'next depth'), 'the image keeps its message no longer'


def test_what_is_cleared_pairs_no_more():
    pairing = DepthPairing()
    pairing.add_depth(0, 'depth')
    assert pairing.has_depth
    pairing.clear_depths()
    assert not pairing.has_depth
    pairing.add_result(0, 'image')
    assert pairing.pop_pairs() == []
    pairing.clear()
    assert not pairing.add_depth(0, 'depth')
    assert pairing.pop_pairs() == []


def test_depths_of_another_rate_get_the_nearest_image_once_a_later_one_has_shown_which():
    pairing, tolerance_ns = DepthPairing(), 50_000_000
    pairing.add_depth(0, 'depth of 0')
    pairing.add_result(-30_000_000, 'image of -30')
    assert pairing.pop_pairs(tolerance_ns) == []
    pairing.add_result(20_000_000, 'image of 20')
    assert pairing.pop_pairs(tolerance_ns) == [('image of 20', 'depth of 0')]
    assert pairing.pop_pairs(tolerance_ns) == []
    for _ in range(2):  # a stamp that comes again, as in a loop, is another depth
        pairing.add_depth(20_000_000, 'depth of 20')
        assert pairing.pop_pairs(tolerance_ns) == [('image of 20', 'depth of 20')], 'of one exposure'
    pairing.add_depth(130_000_000, 'depth of 130')
    pairing.add_result(190_000_000, 'image of 190')
    assert pairing.pop_pairs(tolerance_ns) == [], 'too far apart'
