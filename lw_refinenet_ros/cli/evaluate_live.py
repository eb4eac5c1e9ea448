# SPDX-License-Identifier: Apache-2.0
"""Score the labels that the running node publishes for a bag played to it over DDS."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from lw_refinenet_ros.class_groups import read_groups
from lw_refinenet_ros.cli.live import run_live
from lw_refinenet_ros.cli.options import (
    NODE,
    given_engine_options,
    label_set,
    mask_map,
    network_size,
    warn_of_predictions,
)
from lw_refinenet_ros.evaluation.evaluate import Prediction, Segment, evaluate
from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.examples import BagExamples, Example
from lw_refinenet_ros.evaluation.live import LiveRun
from lw_refinenet_ros.evaluation.masks import MaskStream
from lw_refinenet_ros.evaluation.provenance import describe_network_size, describe_weights
from lw_refinenet_ros.image.ignore_mask import read_ignore_mask
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS, find_weights
from lw_refinenet_ros.sources.opening import open_source

__all__ = ['evaluate_live']


def evaluate_live(options: argparse.Namespace, worst: int) -> tuple[Evaluation, dict[str, str], LiveRun]:
    """Play, record and score; return the evaluation, its conditions and the records."""
    (bag,) = options.bag
    rate = options.rate or 1.0
    masks = Path(options.labels) if Path(options.labels).is_dir() else str(options.labels)
    examples = BagExamples(bag, options.topic, masks, round(options.tolerance * 1e9))
    weights = find_weights(options.weights or DEFAULT_WEIGHTS).resolve()
    groups, ignored = read_groups(options.class_groups), read_ignore_mask(options.ignore_mask)
    labels = label_set(str(weights), groups)
    mapping = mask_map(options, label_set(str(weights)), masks)
    warn_of_predictions([masks])
    parameters = {**given_engine_options(options), 'weights': str(weights)}
    parameters |= zip(('network_height', 'network_width'), parameters.pop('network_size', ()))
    if options.ignore_mask:
        parameters['ignore_mask'] = str(options.ignore_mask.absolute())
    outputs = ('label', 'confidence', 'overlay') if options.output_bag else ('label', 'confidence')
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='lw_refinenet_')))
        recorded = options.output_bag or folder / 'labels.mcap'
        live = run_live(
            str(bag),
            f'/{examples.topic.lstrip("/")}',
            recorded,
            parameters,
            examples.length,
            source_topic=examples.source_topic,
            rate=rate,
            outputs=outputs,
        )
        arrived = {result.stamp_ns for result in live.results}
        evaluation = evaluate(
            examples,
            _lookup(stack, recorded, arrived),
            labels,
            worst=worst,
            masks=mapping,
            ignored=ignored,
        )
    made_with = {
        **live.conditions,
        **describe_weights(options.weights or DEFAULT_WEIGHTS),
        **({'map': mapping.description} if mapping else {}),
        **({'class_groups': groups.description} if groups else {}),
        **describe_network_size(network_size(options)),
        'rate': f'{rate:g} times the recorded one, over DDS',
    }
    return evaluation, made_with, live


def _lookup(stack: ExitStack, recorded: Path, arrived: set[int]) -> Segment:
    """Return the function that finds an example's recorded label and confidence."""
    if not arrived:
        return lambda _: None
    streams = []
    for output in ('label', 'confidence'):
        source = stack.enter_context(open_source(recorded, topic=f'{NODE}/{output}'))
        streams.append(MaskStream(source, set(arrived), _refuse))

    def find(example: Example) -> Prediction | None:
        label, confidence = (stream.take(example.stamp_ns) for stream in streams)
        return None if label is None else Prediction(label, confidence, None)

    return find


def _refuse(problem: str) -> None:
    raise ValueError(problem)
