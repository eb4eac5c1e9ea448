# SPDX-License-Identifier: Apache-2.0
"""Settings of the process that threads change at a time."""

import locale
from contextlib import ExitStack

import pytest
import torch

from lw_refinenet_ros.process_wide import ProcessWide


def test_a_setting_comes_back_when_the_last_has_left_and_each_time():
    seen = []

    def change():
        seen.append('changed')
        return lambda: seen.append('back')

    setting = ProcessWide(change)
    for _ in range(2):
        first, second = ExitStack(), ExitStack()
        first.enter_context(setting)
        second.enter_context(setting)
        first.close()
        assert seen == ['changed']
        second.close()
        assert seen == ['changed', 'back']
        seen.clear()


def test_the_locale_is_that_of_c_inside_and_as_before_outside():
    pytest.importorskip('openvino')
    from lw_refinenet_ros.inference.openvino_engine import letters_of_c

    before = locale.setlocale(locale.LC_CTYPE, 'C.UTF-8')
    with letters_of_c:
        assert locale.setlocale(locale.LC_CTYPE) == 'C'
    assert locale.setlocale(locale.LC_CTYPE) == before


def test_pytorch_has_one_thread_inside_and_as_many_as_before_outside():
    from lw_refinenet_ros.node.candidate import one_thread

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread:
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
