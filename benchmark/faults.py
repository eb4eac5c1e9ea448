# SPDX-License-Identifier: Apache-2.0
"""Fault injection, many times over: `python -m benchmark.faults [NAME[=AMOUNT]...]`.

Each writes its own table, results/faults_NAME. The amount is a number of messages, files, requests,
restarts, loops, frames or rounds, minutes of `soak`, seconds of `subscribers` and `abuse`; without names all
run, with the amounts below.
"""

import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmark.table import store
from lw_refinenet_ros.cli.options import Progress

LABELS = Path(__file__).parents[1] / 'config/labels/camvid.yaml'
FLAT_MB = 20  # that the later half may need beyond the first: what malloc keeps differs by so much
SEED = 0


def messages(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Parse damaged messages."""
    from test.support.faults.messages import view_damaged

    fates = view_damaged(int(count), SEED, progress)
    rows = [{'message': kind, 'fate': fate, 'times': n} for (kind, fate), n in sorted(fates.items())]
    note = f'Of {int(count):,} damaged messages none was read beyond its end, where a guard page lies.'
    return rows, [f'{note} Fates that are not "viewed" or "converted" are reasons of a refusal.']


def files(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Load damaged weights files, and as many label files."""
    from test.support.faults.files import load_damaged, read_damaged_labels
    from test.support.long_run import tiny_weights

    with tempfile.TemporaryDirectory() as folder, tiny_weights() as weights:
        fates = load_damaged(weights, int(count), SEED, Path(folder), progress)
        labels = read_damaged_labels(LABELS, int(count), SEED, Path(folder))
    rows = [{'damage': kind, 'fate': fate, 'files': n} for (kind, fate), n in sorted(fates.items())]
    rows += [{'damage': 'label file', 'fate': fate, 'files': n} for fate, n in sorted(labels.items())]
    return rows, ['Each was refused in one clear line, or gave finite numbers of the right shape.']


def kills(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Kill `segment` while it writes."""
    from benchmark.fault_kills import kill_while_writing
    from test.support.long_run import tiny_weights

    with tempfile.TemporaryDirectory() as folder, tiny_weights() as weights:
        whole = kill_while_writing(weights, int(count), SEED, Path(folder), progress)
    rows = [{'files': kind, 'whole': n, 'cut': 0} for kind, n in sorted(whole.items())]
    return rows, [f'Killed {int(count)} times, at random moments between the start and half of the images.']


def parameters(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Send odd parameters to the running node."""
    from test.support.faults.parameters import set_odd_parameters
    from test.support.long_run import node_under_test, tiny_weights

    with tiny_weights() as weights, node_under_test(weights=str(weights), threads=1) as node:
        node.listen('label')
        fates = set_odd_parameters(node, int(count), SEED, progress)
    rows = [{'parameters': fate, 'times': n} for fate, n in sorted(fates.items())]
    return rows, [f'{int(count):,} requests of 1 to 3 parameters; it answered all and served afterwards.']


def over_dds(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Send bad messages to the running node."""
    from test.support.faults.load import send_damaged

    fates = _with_node(lambda node: send_damaged(node, int(count), SEED, progress))
    return [{'fate': fate, 'frames': n} for fate, n in sorted(fates.items())], [f'{int(count):,} were sent.']


def publisher(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Kill the camera and start it again."""
    from test.support.faults.load import restart_publisher

    row = _with_node(lambda node: restart_publisher(node, int(count), progress))
    return [{'kills': int(count), **row}], ['From the start of the publishing process to its third label.']


def loop(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Make the clock jump back, in simulated time."""
    from test.support.faults.load import loop_clock

    row = _with_node(lambda node: loop_clock(node, int(count), progress), use_sim_time=True)
    return [row], ['A second of 30 frames over and over, with /clock.']


def resolution(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Send every frame in another size."""
    from test.support.faults.load import change_resolution

    row = _with_node(lambda node: change_resolution(node, int(count), SEED, progress))
    _check_flat(row['memory, early (MB)'], row['late (MB)'])
    return [{'frames': int(count), **row}], ['Sizes from 1x1 on; the engine compiles for each.']


def memory(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Segment frame after frame as fast as the node answers."""
    from test.support.faults.load import answer_closed_loop

    samples = _with_node(lambda node: answer_closed_loop(node, int(count), progress))
    return _halves(samples), [f'{int(count):,} frames, the next one sent when a label is there.']


def soak(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Play 30 frames a second for minutes."""
    from test.support.faults.load import soak as play

    samples, fates = _with_node(lambda node: play(node, count, progress), 'label', 'overlay')
    said = ', '.join(f'{n:,} {fate}' for fate, n in sorted(fates.items()))
    return _halves(samples), [f'{count:g} minutes of 320x240 at 30 Hz, label and overlay published: {said}.']


def subscribers(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Make listeners slow down, hang and die."""
    from test.support.faults.load import hang_subscribers

    rows = _with_node(lambda node: hang_subscribers(node, count))
    progress(int(count))
    return rows, [
        f'{count:g} s each, 320x240 at 30 Hz: two take 0.5 and 2 s per message, one hangs, one died.'
    ]


def signals(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """End the node at random moments."""
    from benchmark.fault_signals import end_at_random
    from test.support.long_run import tiny_weights

    with tiny_weights() as weights:
        rows = end_at_random(str(weights), int(count), SEED, lambda done: progress(done // 3))
    return rows, ['At moments from the first import to full load; after every end the next start served.']


def swaps(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Set other weights faster than they compile."""
    from benchmark.fault_swaps import FLOOD_S, swap_flood

    with tempfile.TemporaryDirectory() as folder:
        rows = swap_flood(Path(folder), int(count), SEED, progress)
    return rows, [
        f'{count:g} settings of `weights` in {FLOOD_S:.0f} s, each another file than the one before.'
    ]


def commands(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """End demo, play, evaluate --live and train at random moments."""
    from benchmark.fault_commands import end_commands_at_random
    from test.support.long_run import tiny_weights

    with tiny_weights() as weights, tempfile.TemporaryDirectory() as folder:
        rows = end_commands_at_random(weights, Path(folder), int(count), SEED, lambda n: progress(n // 8))
    note = (
        'At moments from the first line of Python to the last, four commands at a time. Before our handlers '
        'are there, and after the end, the system ends it, which a shell shows as 130 and 143 too.'
    )
    return rows, [note, 'No process was left running, no traceback was printed.']


def lifecycle(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Drive the node round its lifecycle under load."""
    from test.support.faults.lifecycle import go_round
    from test.support.long_run import LongRun, tiny_weights

    with tiny_weights() as weights:
        node = LongRun(weights=str(weights), threads=1, autostart=False)
        try:
            node.listen('label', 'overlay')
            rows = go_round(node, int(count), progress)
        finally:
            node.close()
    return rows, [f'{int(count)} times configure, activate, deactivate, cleanup, at 30 frames a second.']


def abuse(count: float, progress: Callable[[int], None]) -> tuple[list[dict], list[str]]:
    """Do everything at once."""
    from benchmark import fault_abuse
    from test.support.long_run import node_under_test, write_tiny_weights

    with tempfile.TemporaryDirectory() as folder:
        weights = [str(write_tiny_weights(Path(folder) / f'{n}.safetensors', seed=n)) for n in range(3)]
        with node_under_test(weights=weights[0], threads=1) as node:
            node.listen('label')
            rows = fault_abuse.abuse(node, weights, count, SEED, progress)
            fault_abuse.check(rows)
    note = (
        f'{count:g} s of {fault_abuse.PUBLISHERS} publishers of all sizes and of bad messages, '
        f'{fault_abuse.SUBSCRIBERS} subscribers that come and go, {fault_abuse.LIFECYCLE_CLIENTS} lifecycle '
        'clients, floods of parameters and other weights; the peers freeze (SIGSTOP) one after the other. '
        'Before it, as long of the same as a warm-up.'
    )
    names = [name for name in rows[0] if name != 'part']
    return [{'quantity': name, **{row['part']: row[name] for row in rows}} for name in names], [note]


ENTRIES = {
    messages: 1_000_000, files: 2000, kills: 100, parameters: 2000, over_dds: 5000, publisher: 50, loop: 50,
    resolution: 300, memory: 10_000, subscribers: 20, signals: 20, swaps: 500, commands: 100, lifecycle: 100,
    soak: 30, abuse: 300,
}  # fmt: skip


def _with_node(play: Callable, *topics: str, **options: object):
    from test.support.long_run import node_under_test, tiny_weights

    with tiny_weights() as weights, node_under_test(weights=str(weights), threads=1, **options) as node:
        node.listen(*(topics or ('label',)))
        return play(node)


def _halves(samples: list[tuple[float, int]]) -> list[dict]:
    """Compare the second half of the memory and thread samples with the first, without the warm-up."""
    samples = samples[len(samples) // 10 :]
    middle = len(samples) // 2
    rows = [
        {'part': part, 'memory, most (MB)': max(m for m, _ in half), 'threads, most': max(t for _, t in half)}
        for part, half in (('first half', samples[:middle]), ('second half', samples[middle:]))
    ]
    _check_flat(*(row['memory, most (MB)'] for row in rows))
    assert rows[1]['threads, most'] <= rows[0]['threads, most'], f'threads grow: {rows}'
    return rows


def _check_flat(early: float, late: float) -> None:
    assert late <= early + FLAT_MB, f'memory grows from {early:.1f} to {late:.1f} MB'


def main(arguments: list[str] | None = None) -> None:
    """Run all, or the named ones with their amounts."""
    # Shells ignore interrupts for background jobs of a script, which child processes would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    known = {entry.__name__: (entry, amount) for entry, amount in ENTRIES.items()}
    for argument in arguments or list(known):
        name, _, amount = argument.partition('=')
        if name not in known:
            sys.exit(f'no fault {name}: there are {", ".join(known)}')
        entry, usual = known[name]
        amount = float(amount or usual)
        progress = Progress(f'{name}:', None if name == 'soak' else int(amount))
        rows, notes = entry(amount, progress.show)
        title = (entry.__doc__ or '').rstrip('.')
        store(f'faults_{name}', f'Faults: {title[0].lower()}{title[1:]}', rows, notes, ('numpy',))


if __name__ == '__main__':
    main(sys.argv[1:])
