# SPDX-License-Identifier: Apache-2.0
"""Evaluate bags or a folder without ROS: in this process, in several processes, or on a cluster."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lw_refinenet_ros.cli.environment import conditions
from lw_refinenet_ros.cli.options import (
    NODE,
    Progress,
    given_engine_options,
    label_set,
    load_segmenter,
    mask_map,
    warn_of_predictions,
)
from lw_refinenet_ros.evaluation.checkpoint import remove_damaged
from lw_refinenet_ros.evaluation.evaluation import Evaluation, merge
from lw_refinenet_ros.evaluation.processes import evaluate_in_processes
from lw_refinenet_ros.evaluation.ray_cluster import evaluate_on_ray
from lw_refinenet_ros.evaluation.recording import (
    THREADS_DO_NOT_MATTER,
    Done,
    Failed,
    Recording,
    evaluate_recording,
)
from lw_refinenet_ros.evaluation.selection import ALL, Selection
from lw_refinenet_ros.evaluation.state_folder import state_folder, state_of
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.labels import find_classes_of_masks
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS, find_weights
from lw_refinenet_ros.sources.bag_formats.bag_files import BAG_SUFFIXES

__all__ = ['evaluate_recordings', 'names_of']


def evaluate_recordings(
    options: argparse.Namespace, worst: int, stack: ExitStack
) -> tuple[Evaluation, dict[str, str], dict[str, Evaluation]]:
    """Evaluate the recordings that the options name.

    Args:
        options: the options of the command.
        worst: number of worst frames to keep.
        stack: removes the checkpoints when it closes without an error.

    Returns:
        One evaluation of all; its conditions; and, for several bags, the evaluation of each by name.
    """
    bags = [path.absolute() for path in options.bag or ()]
    at_once = max(1, min(options.jobs or 1, len(bags)))
    recordings = _recordings(options, bags, worst)
    opened = recordings[0].open() if len(recordings) == 1 else None  # before an engine is loaded for nothing
    folder = None
    if options.resume:
        names = [recording.name for recording in recordings]
        folder = stack.enter_context(_kept(options.resume.absolute(), names))
    segmenter = load_segmenter(options)
    for recording in recordings:
        if folder and (damage := remove_damaged(state_of(folder, recording.name), segmenter.labels)):
            print(damage, file=sys.stderr)
    engine = _engine(options, segmenter, at_once)
    recordings = [replace(recording, engine=engine, state=folder) for recording in recordings]
    results: list[Done | Failed]
    what = 'evaluated' if recordings[0].selection == ALL else 'frames read'  # of which some are evaluated
    if options.ray:
        shown = Progress('bags evaluated', len(recordings))
        results = evaluate_on_ray(recordings, options.ray, options.jobs, lambda done, _: shown.show(done))
    elif at_once > 1:
        shown = Progress(what)
        results = evaluate_in_processes(recordings, at_once, shown.show_of)
    else:
        results = []
        for recording in recordings:
            shown = Progress(what if len(recordings) == 1 else f'{recording.name}: {what}')
            results.append(evaluate_recording(recording, shown.show_of, segmenter, opened))
    evaluation, made_with, parts = _joined(results)
    made_with |= {'weights': options.weights or DEFAULT_WEIGHTS}  # as given
    if recordings[0].masks:
        made_with['map'] = recordings[0].masks.description
    return evaluation, made_with, parts


def _recordings(options: argparse.Namespace, bags: Sequence[Path], worst: int) -> list[Recording]:
    """Return each bag, or the folder of images, as a recording; their engine and state come later."""
    if len(set(bags)) < len(bags):
        raise ValueError(f'--bag {next(bag for bag in bags if bags.count(bag) > 1)} is given twice')
    names = names_of(bags or [options.images])
    labels = Path(options.labels).absolute() if Path(options.labels).is_dir() else options.labels
    output = options.output_bag.absolute() if options.output_bag else None
    software = conditions()
    classes = label_set(options.weights)
    recordings = []
    for name, path in zip(names, bags or [options.images.absolute()]):
        masks = labels / name if isinstance(labels, Path) and len(bags) > 1 else labels
        if isinstance(masks, Path) and not masks.is_dir():
            raise ValueError(f'--labels {options.labels}: there is no folder {masks} with masks of {path}')
        recording = Recording(
            name=name,
            frames=path,
            topic=options.topic,
            labels=masks,
            tolerance_ns=round(options.tolerance * 1e9) if bags else None,
            engine={},
            worst=worst,
            output=output / f'{name}.mcap' if output and len(bags) > 1 else output,
            node=NODE,
            state=None,
            versions=f'{software["versions"]}, {software.get("commit", "no commit")}',
            masks=mask_map(options, classes, masks),
            ignore_mask=options.ignore_mask and options.ignore_mask.absolute(),
            selection=Selection(options.every or 1, options.start, options.end),
            corruptions=options.corrupt,
            rerun=options.rerun and options.rerun.absolute(),
        )
        recordings.append(recording)
    if isinstance(labels, Path) and options.map is None:
        folders = {labels, *(recording.labels for recording in recordings)}
        if not any(find_classes_of_masks(Path(folder)) for folder in folders):
            ids = ', '.join(f'{index} {name}' for index, name in enumerate(classes.names))
            print(
                f'{options.labels} has no classes.yaml: its ids are taken as those of the weights ({ids})',
                file=sys.stderr,
            )
    warn_of_predictions(recording.labels for recording in recordings)
    return recordings


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return a unique name for each recording that is valid as a file name."""
    names: list[str] = []
    for path in paths:
        stem = path.stem if path.suffix in BAG_SUFFIXES else path.name
        numbered = (f'{stem}-{number}' for number in itertools.count(2))
        names.append(next(name for name in itertools.chain([stem], numbered) if name not in names))
    return names


def _engine(options: argparse.Namespace, segmenter: Segmenter, at_once: int) -> dict[str, Any]:
    """Return the arguments of `Segmenter.load`; processes share the cores where that changes no label."""
    given = given_engine_options(options)
    weights = Path(options.weights or '').expanduser()
    if options.weights and find_weights(options.weights) == weights:  # a file, not shipped weights
        given['weights'] = str(weights.absolute())
    affinity = getattr(os, 'sched_getaffinity', None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    if segmenter.engine.name in THREADS_DO_NOT_MATTER or segmenter.engine.device == 'cuda':
        cores = 1 if options.ray else max(1, cores // at_once)
    if options.ray or at_once > 1:
        given.setdefault('threads', cores)
    return given


def _joined(
    results: Sequence[Done | Failed],
) -> tuple[Evaluation, dict[str, str], dict[str, Evaluation]]:
    """Merge several evaluations into one; unreadable recordings become its problems."""
    failed = [result for result in results if isinstance(result, Failed)]
    done = [result for result in results if isinstance(result, Done)]
    if not done:
        raise ValueError(failed[0].reason)
    names = done[0].made_with
    made_with = {name: '; '.join(dict.fromkeys(each.made_with[name] for each in done)) for name in names}
    if len(results) == 1:
        return done[0].evaluation, made_with, {}
    parts = {each.name: each.evaluation for each in done}
    evaluation = merge(parts)
    evaluation.problems.add(*(each.reason for each in failed))
    return evaluation, made_with, parts


@contextmanager
def _kept(above: Path, names: Sequence[str]) -> Iterator[Path]:
    """Lock the folder for the checkpoints, and print where it is if it is kept."""
    folder = None
    try:
        with state_folder(above, names) as folder:
            yield folder
    except BaseException:
        if folder and any(state_of(folder, name).is_file() for name in names):
            print(f'checkpoint in {folder}: run the same command to resume', file=sys.stderr)
        raise
