# SPDX-License-Identifier: Apache-2.0
"""The `segmentation_node` command."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
from typing import NoReturn

from lw_refinenet_ros.node.process.fast_dds import remove_dead_segments
from lw_refinenet_ros.node.process.malloc import keep_few_kernels, keep_large_allocations
from lw_refinenet_ros.node.process.require_ros import require_ros

__all__ = ['main']


def main() -> None:
    """Run the node until it is interrupted."""
    # The imports take seconds and leave nothing to clean up: an interrupt may end them as the system does.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_large_allocations()
    keep_few_kernels()
    own = list(itertools.takewhile(lambda argument: argument != '--ros-args', sys.argv[1:]))
    if own:
        _explain(own)
    remove_dead_segments()
    try:
        require_ros()
    except OSError as error:
        sys.exit(f'segmentation_node: {error}')
    from lw_refinenet_ros.node import segmentation_node

    segmentation_node.main()
    gc.collect()  # the middleware's shared memory is released with the node's last objects, all in cycles
    # What is left are destructors of imported libraries, which take a second or more for nothing.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _explain(arguments: list[str]) -> NoReturn:
    """Print the usage, for it was asked for or arguments are wrong, and end the process."""
    from lw_refinenet_ros.node.parameters import usage

    if {'-h', '--help'} & set(arguments):
        sys.stdout.write(f'{usage()}\n')
        sys.exit()
    sys.stderr.write(f'{usage()}\nsegmentation_node: unknown without --ros-args: {" ".join(arguments)}\n')
    sys.exit(2)


if __name__ == '__main__':
    main()
