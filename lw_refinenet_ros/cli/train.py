# SPDX-License-Identifier: Apache-2.0
"""Train or fine-tune on a folder of images and masks; an interrupted run is resumed."""

from __future__ import annotations

import argparse
import operator
import shlex
import sys
from collections.abc import Callable
from dataclasses import Field, fields, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import Progress, UsageError, number, one_of, path, source
from lw_refinenet_ros.cli.outputs import TRAINING, WEIGHTS, Declared, Output
from lw_refinenet_ros.inference.engine import DEVICES
from lw_refinenet_ros.one_line import counted
from lw_refinenet_ros.training.config import TrainingConfig

if TYPE_CHECKING:
    from lw_refinenet_ros.labels import LabelSet
    from lw_refinenet_ros.model.network import Network
    from lw_refinenet_ros.model.pretrained import Normalisation
    from lw_refinenet_ros.model.weights import Card
    from lw_refinenet_ros.sources.source import SourceError
    from lw_refinenet_ros.training.dataset import Pairs
    from lw_refinenet_ros.training.train import Validate

__all__ = ['add_arguments', 'outputs', 'run']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments, including one for every field of `TrainingConfig`."""
    parser.add_argument(
        '--data',
        type=path,
        required=True,
        action='append',
        metavar='DIR',
        help='folder with images/ and labels/; repeatable',
    )
    parser.add_argument('--val', type=path, metavar='DIR', help='the same for validation')
    parser.add_argument(
        '--classes',
        type=path,
        metavar='FILE',
        help='classes.yaml (default: in the data folder or above it)',
    )
    parser.add_argument(
        '--output',
        type=path,
        required=True,
        metavar='DIR',
        help='folder of the run; an unfinished run in it is resumed',
    )
    initial = parser.add_mutually_exclusive_group()
    initial.add_argument('--init', metavar='NAME|FILE', help='initial weights (default: ImageNet encoder)')
    initial.add_argument(
        '--encoder',
        metavar='NAME|FILE',
        help="weights to take only the encoder from: ours, or a MobileNet-v2 with torchvision's names",
    )
    parser.add_argument(
        '--unlabelled',
        type=source,
        default=[],
        action='append',
        metavar='SOURCE',
        help='bag, video or folder of images without masks, for --teacher to label; repeatable',
    )
    parser.add_argument('--teacher', metavar='NAME|FILE', help='weights with the same classes')
    parser.add_argument(
        '--different',
        type=number(float, 0, 1),
        metavar='D',
        help='use only --unlabelled frames unlike all before, as `label --different`',
    )
    parser.add_argument(
        '--device', type=one_of('device', DEVICES), default='auto', help='auto, cuda or cpu (default: auto)'
    )
    parser.add_argument(
        '--about', default='', metavar='TEXT', help='name and licence of the data, stored in the weights file'
    )
    training = parser.add_argument_group('training')
    for option in fields(TrainingConfig):
        training.add_argument(
            f'--{option.name.replace("_", "-")}',
            type=_type(option),
            default=argparse.SUPPRESS,  # what is given, must agree with --init
            metavar='NAME' if isinstance(option.default, str) else 'N',
            help=f'{option.metadata["help"]} (default: {option.default})',
        )


def outputs(options: argparse.Namespace) -> Declared:
    files = {'best.safetensors': WEIGHTS, 'last.safetensors': WEIGHTS, **TRAINING}
    written = [Output('--output', options.output / name, kind) for name, kind in files.items()]
    weights = (options.init, options.encoder, options.teacher)
    return written, [*options.data, options.val, options.classes, *weights, *options.unlabelled]


def _type(option: Field[Any]) -> Callable[[str], Any]:
    if isinstance(option.default, str):
        return str
    return number(int if isinstance(option.default, int) else float, *option.metadata['range'])


def run(options: argparse.Namespace) -> None:
    """Check all inputs and options, then train."""
    import torch

    from lw_refinenet_ros.files import lock_folder, new_folders
    from lw_refinenet_ros.image.label_png import fault_of_predictions
    from lw_refinenet_ros.model.network import build_model
    from lw_refinenet_ros.model.weights import Card, read_card
    from lw_refinenet_ros.training.train import Trainer
    from lw_refinenet_ros.training.traps import find_traps

    given = {o.name: getattr(options, o.name) for o in fields(TrainingConfig) if hasattr(options, o.name)}
    config = TrainingConfig(**given)
    if bool(options.unlabelled) != bool(options.teacher):
        raise UsageError('--unlabelled and --teacher go together: give both')
    if options.different is not None and not options.unlabelled:
        raise UsageError('--different chooses among --unlabelled frames: give both')
    device = _device(options.device)
    least = [config.least_height, config.least_width]
    dials: dict[str, Any] = {'least_size': least} if all(least) else {}
    if options.init:
        init = read_card(options.init)
        config, dials = _of_the_same_build(given, init, options.init), init.dials
    pairs, held_out = _find_data(options)
    _report(_describe(pairs, config, device))
    predicted = fault_of_predictions([*pairs.masks, *(held_out.masks if held_out else ())])
    for trap in filter(None, [*find_traps(pairs), predicted]):
        print(f'warning: {trap}', file=sys.stderr)
    with new_folders(options.output), lock_folder(options.output):
        torch.manual_seed(config.seed)
        model = build_model(config.architecture, len(pairs.labels.names), width=config.width, **dials)
        if options.init:
            _initialise(model, pairs.labels, options.init)
            mean, std = init.mean, init.std
        else:
            mean, std = _initialise_encoder(model, options.encoder, pairs)
        card = Card(
            architecture=config.architecture,
            width=config.width,
            labels=pairs.labels,
            mean=mean,
            std=std,
            training={
                'data': options.about or ', '.join(map(str, options.data)),
                'frames': len(pairs),
                'init': options.init
                or (f'the encoder of {options.encoder}' if options.encoder else 'ImageNet encoder'),
            },
            temperature=init.temperature if options.init else 1.0,  # until fitted on --val
            source=shlex.join(['lw_refinenet', *sys.argv[1:]]),
            dials=dials,
        )
        validate = _validation(held_out, card, device) if held_out else None
        unlabelled = _label(options, pairs.labels, config, device) if options.unlabelled else None
        Trainer(
            model,
            card,
            pairs,
            config,
            options.output,
            unlabelled=unlabelled,
            held_out=held_out,
            device=device,
            validate=validate,
            report=_report,
        ).train()
        best = options.output / 'best.safetensors'  # none if no epoch scored above 0
        scored = held_out is not None and best.is_file()
        result = best if scored else options.output / 'last.safetensors'
        if held_out and scored:
            _calibrate(result, held_out)
    print(result)


def _device(name: str) -> str:
    """Choose 'cpu' or 'cuda'."""
    import torch

    available = torch.cuda.is_available()
    if name == 'cuda' and not available:
        raise ValueError('--device cuda: PyTorch finds no CUDA GPU here; use --device cpu')
    return 'cuda' if available and name != 'cpu' else 'cpu'


def _describe(pairs: Pairs, config: TrainingConfig, device: str) -> str:
    """Describe a run in one line: its size and the options that differ from the defaults."""
    steps = -(-len(pairs) // config.batch_size)
    crops = f'{counted(config.batch_size, "crop")} of {config.crop_width}x{config.crop_height}'
    changed = [
        f'{option.name.replace("_", "-")} {getattr(config, option.name)}'
        for option in fields(TrainingConfig)
        if getattr(config, option.name) != option.default
        and option.name not in ('architecture', 'epochs', 'batch_size', 'crop_height', 'crop_width')
    ]
    return '; '.join(
        [
            f'{counted(len(pairs), "pair")}, {counted(len(pairs.labels.names), "class")}, on {device}',
            config.architecture,
            f'{counted(config.epochs, "epoch")} of {counted(steps, "step")} of {crops}',
            *([', '.join(changed)] if changed else []),
        ]
    )


def _calibrate(path: Path, pairs: Pairs) -> None:
    """Fit the temperature on validation images and store it, so that 80 % confidence means 80 % accuracy."""
    from lw_refinenet_ros.model.weights import load_model, save_model
    from lw_refinenet_ros.training.temperature import fit_temperature, sample_logits

    network, card = load_model(path)
    progress = Progress('calibrating', len(pairs))
    temperature = round(fit_temperature(*sample_logits(network, card, pairs, progress.show)), 4)
    save_model(path, network, replace(card, temperature=temperature))
    _report(f'temperature {temperature}')


def _report(line: str) -> None:
    print(line, flush=True)


def _of_the_same_build(given: dict[str, Any], init: Card, name: str) -> TrainingConfig:
    """Return the given options with what the initial weights determine; refuse options that contradict it."""
    fixed: dict[str, Any] = {
        'architecture': init.architecture,
        'width': init.width,
        'least_height': init.least_size[0],
        'least_width': init.least_size[1],
    }
    for dial, value in fixed.items():
        if given.get(dial, value) != value:
            raise ValueError(
                f'--{dial.replace("_", "-")} {given[dial]}: --init {name} has {value}; leave one out'
            )
    return TrainingConfig(**{**given, **fixed})


def _find_data(options: argparse.Namespace) -> tuple[Pairs, Pairs | None]:
    """Find training and validation data; raise with all faults of all folders at once."""
    from lw_refinenet_ros.training.dataset import DataError, find_pairs

    sets: list[Pairs] = []
    faults = []
    for folder in [*options.data, *([options.val] if options.val else [])]:
        try:
            sets.append(find_pairs(folder, options.classes, Progress(f'checked in {folder}').show_of))
        except DataError as error:
            faults.append(str(error))
        else:
            if sets[-1].labels.names != sets[0].labels.names:
                theirs, ours = (', '.join(s.labels.names) for s in (sets[-1], sets[0]))
                faults.append(f'{folder} has the classes {theirs}, not {ours}: name one with --classes')
    if faults:
        raise DataError('\n'.join(faults))
    held_out = sets.pop() if options.val else None
    return reduce(operator.add, sets), held_out


def _label(options: argparse.Namespace, labels: LabelSet, config: TrainingConfig, device: str) -> Pairs:
    """Label the frames of --unlabelled."""
    from lw_refinenet_ros.training.pseudo_labels import draft_pseudo_labels

    sets: list[Pairs] = []
    problems: list[SourceError] = []
    for each in options.unlabelled:
        drafted = draft_pseudo_labels(
            each,
            options.teacher,
            labels,
            options.output,
            confidence=config.pseudo_confidence,
            device=device,
            different=options.different,
            on_error=problems.append,
            progress=Progress(f'labelled of {each}').show,
        )
        share = drafted.counts[: len(labels.names)].sum() / drafted.counts.sum()
        _report(f'{each}: {counted(len(drafted), "frame")}, of whose pixels {share:.0%} reach the confidence')
        sets.append(drafted)
    if problems:
        print(f'warning: {counted(len(problems), "frame")} cannot be used: {problems[0]}', file=sys.stderr)
    return reduce(operator.add, sets)


def _initialise(model: Network, labels: LabelSet, weights: str) -> None:
    """Copy the weights of a file, and print which classes it knows."""
    from lw_refinenet_ros.model.weights import load_model
    from lw_refinenet_ros.training.transfer import carry_over

    trained, card = load_model(weights)
    _report(f'{weights}: {carry_over(model, labels, trained, card.labels)}')


def _initialise_encoder(model: Network, weights: str | None, pairs: Pairs) -> Normalisation:
    """Load an encoder trained on ImageNet; return the normalisation of its input."""
    import numpy as np
    import torch

    from lw_refinenet_ros.model.pretrained import load_encoder_file, load_imagenet_encoder, restore_statistics
    from lw_refinenet_ros.resources import find_weights
    from lw_refinenet_ros.training.dataset import read_pair

    if weights is None:
        load_imagenet_encoder(model)
        return model.encoder.mean, model.encoder.std
    file = find_weights(weights)
    mean, std = load_encoder_file(model, file)
    sample = [read_pair(i, m)[0] for i, m in list(zip(pairs.images, pairs.masks))[:: len(pairs) // 16 + 1]]
    height, width = np.min([(256, 256), *(image.shape[:2] for image in sample)], axis=0)
    x = torch.from_numpy(np.stack([image[:height, :width] for image in sample])).permute(0, 3, 1, 2) / 255
    normalised = (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    if restore_statistics(model.encoder, normalised):
        _report(f'{file}: batch norms without statistics take them from the images')
    return mean, std


def _validation(pairs: Pairs, card: Card, device: str) -> Validate:
    """Return the validation function, which uses the same resizing and metrics as `evaluate`."""
    from lw_refinenet_ros.cli.evaluate import score
    from lw_refinenet_ros.inference.choice import has_bf16
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.inference.torch_engine import TorchEngine

    precision = 'bf16' if has_bf16(device) else 'fp32'

    def validate(model: Network) -> dict[str, Any]:
        engine = TorchEngine(model, card, device=device, precision=precision, threads=0)
        scores = score(Segmenter(engine, card), list(zip(pairs.images, pairs.masks)))
        del scores['latency_ms']  # of this machine at this moment, not of the weights
        return scores

    return validate
