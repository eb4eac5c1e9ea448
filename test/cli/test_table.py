# SPDX-License-Identifier: Apache-2.0
"""Tables fit the terminal that they are printed on."""

import pytest

from lw_refinenet_ros.cli.table import Colored, layout

ROWS = [
    ('class', 'IoU', 'recall', 'verdict'),
    ('sky', '94.0%', '97.1%', 'better'),
    ('pedestrian', '55.6%', '60.0%', 'no significant change'),
]
FIGURES = [
    ('Mean IoU', '78.9%', 'frequency-weighted 95.2%'),
    ('Network latency', '1,360 ms', 'p95 1,520 ms; labels without confidence'),
]


def lines(rows, align, width=None):
    return [''.join(pieces) for pieces in layout(rows, align, width)]


def test_columns_are_aligned_and_lines_have_no_spaces_at_their_ends():
    assert lines(ROWS, '<>><') == [
        'class         IoU  recall  verdict',
        'sky         94.0%   97.1%  better',
        'pedestrian  55.6%   60.0%  no significant change',
    ]
    assert lines([('a', '1', ''), ('b', '', '')], '<>w') == ['a  1', 'b']
    assert lines(FIGURES, '<>w')[1] == 'Network latency  1,360 ms  p95 1,520 ms; labels without confidence'


def test_columns_that_do_not_fit_follow_in_further_tables_with_the_same_names():
    assert lines(ROWS, '<>><', 33) == [
        'class         IoU  recall',
        'sky         94.0%   97.1%',
        'pedestrian  55.6%   60.0%',
        'class       verdict',
        'sky         better',
        'pedestrian  no significant change',
    ]


def test_text_wraps_beside_the_other_cells_or_where_there_is_no_room_below_them():
    assert lines(FIGURES, '<>w', 50)[2:] == [
        'Network latency  1,360 ms  p95 1,520 ms; labels',
        '                           without confidence',
    ]
    assert lines(FIGURES, '<>w', 40)[2:] == [
        'Network latency  1,360 ms',
        '    p95 1,520 ms; labels without',
        '    confidence',
    ]
    remedy = [('fault', 'image: rate', 'too slow'), ('', '', '-> set a lower rate')]
    assert lines(remedy, '<<w', 30)[1:] == ['    too slow', '    -> set a lower rate']


@pytest.mark.parametrize('width', [20, 30, 40, 50, 60, 80])
def test_no_line_is_wider_than_the_terminal_and_long_names_lose_their_middle(width):
    rows = [('runs/2026-11-26_mobilenet_v2_learning_rate_0.01.json', '78.9%', '1,359 ms'), ('b', '', '')]
    for line in (*lines(rows, '<>>', width), *lines(FIGURES, '<>w', max(width, 30))):
        assert len(line) <= max(width, 30)
    assert lines(rows, '<>>', 60)[0] == 'runs/2026-11-...rate_0.01.json  78.9%  1,359 ms'


def test_paths_and_the_ends_of_coloured_cells_stay_whole():
    long_path = '/a/' + 'long/' * 9 + 'path'
    assert lines([('file', f'{long_path} of 5 bytes')], '<w', 40) == [
        f'file  {long_path}',
        '      of 5 bytes',
    ]
    (pieces,) = layout([('x', Colored('   ', 41))], '<<')
    assert pieces[-1].codes == (41,)
