# SPDX-License-Identifier: Apache-2.0
"""Train or fine-tune on a folder of images and masks; an interrupted run is taken up again."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import Progress
from lw_refinenet_ros.training.config import TrainingConfig

if TYPE_CHECKING:
    import argparse

    from lw_refinenet_ros.model.network import Network
    from lw_refinenet_ros.model.weights import Card
    from lw_refinenet_ros.training.dataset import Pairs
    from lw_refinenet_ros.training.train import Validate

__all__ = ['add_arguments', 'run']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments: those of the run, and one for every dial of `TrainingConfig`."""
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        action='append',
        help='folder with images/ and labels/; repeatable',
    )
    parser.add_argument('--val', type=Path, help='the same for validation; without it nothing is validated')
    parser.add_argument('--classes', type=Path, help='classes.yaml (default: in the data folder or above it)')
    parser.add_argument(
        '--output', type=Path, required=True, help='folder of the run; an unfinished run in it goes on'
    )
    parser.add_argument(
        '--init', metavar='NAME|FILE', help='weights to start from (default: ImageNet encoder)'
    )
    parser.add_argument('--device', default='auto', help='auto, cuda or cpu (default: auto)')
    parser.add_argument('--about', default='', help="the data's name and licence, for the weights file")
    for dial in fields(TrainingConfig):
        name = f'--{dial.name.replace("_", "-")}'
        parser.add_argument(
            name, type=type(dial.default), default=dial.default, help=f'(default: {dial.default})'
        )


def run(options: argparse.Namespace) -> None:
    """Check the data, then train."""
    import torch

    from lw_refinenet_ros.model.network import build_model
    from lw_refinenet_ros.model.pretrained import load_imagenet_encoder
    from lw_refinenet_ros.model.weights import Card
    from lw_refinenet_ros.training.dataset import Pairs, find_pairs
    from lw_refinenet_ros.training.train import Trainer

    config = TrainingConfig(**{dial.name: getattr(options, dial.name) for dial in fields(TrainingConfig)})
    sets = [find_pairs(folder, options.classes) for folder in options.data]
    pairs = Pairs(sum((s.images for s in sets), ()), sum((s.masks for s in sets), ()), sets[0].labels)
    device = options.device if options.device != 'auto' else 'cuda' if torch.cuda.is_available() else 'cpu'
    print(f'{len(pairs)} pairs, {len(pairs.labels.names)} classes, on {device}: {asdict(config)}')
    torch.manual_seed(config.seed)
    model = build_model(config.architecture, len(pairs.labels.names), width=config.width)
    if options.init:
        _initialise(model, options.init)
    else:
        load_imagenet_encoder(model)
    card = Card(
        architecture=config.architecture,
        width=config.width,
        labels=pairs.labels.to_dict(),
        mean=model.encoder.mean,
        std=model.encoder.std,
        training={
            'data': options.about or ', '.join(map(str, options.data)),
            'frames': len(pairs),
            'init': options.init or 'ImageNet encoder',
        },
        source=shlex.join(['lw_refinenet', *sys.argv[1:]]),
    )
    held_out = find_pairs(options.val, options.classes) if options.val else None
    validate = _validation(held_out, card, device) if held_out else None
    trainer = Trainer(
        model, card, pairs, config, options.output, device=device, validate=validate, report=_report
    )
    trainer.train()
    result = options.output / ('best.safetensors' if held_out else 'last.safetensors')
    if held_out and result.is_file():
        _calibrate(result, held_out)
    print(result)


def _calibrate(path: Path, pairs: Pairs) -> None:
    """Store the temperature that fits validation images: then a confidence of 80 % is right in 80 %."""
    from lw_refinenet_ros.model.weights import load_model, save_model
    from lw_refinenet_ros.training.temperature import fit_temperature, sample_logits

    network, card = load_model(path)
    progress = Progress('calibrating', len(pairs))
    temperature = round(fit_temperature(*sample_logits(network, card, pairs, progress.show)), 4)
    save_model(path, network, replace(card, temperature=temperature))
    _report(f'temperature {temperature}')


def _report(line: str) -> None:
    print(line, flush=True)


def _initialise(model: Network, weights: str) -> None:
    """Take every tensor that fits from a weights file, and say what did not."""
    from lw_refinenet_ros.inference.segmenter import find_weights
    from lw_refinenet_ros.model.weights import load_model

    source, _ = load_model(find_weights(weights))
    theirs, ours = source.state_dict(), model.state_dict()
    fitting = {k: v for k, v in theirs.items() if k in ours and v.shape == ours[k].shape}
    model.load_state_dict(fitting, strict=False)
    fresh = [k for k in ours if k not in fitting]
    _report(
        f'{weights}: {len(fitting)} of {len(ours)} tensors taken'
        + (f'; new: {", ".join(fresh[:4])}' if fresh else '')
    )


def _validation(pairs: Pairs, card: Card, device: str) -> Validate:
    """Validate with the code that serves: same resizing, same metrics."""
    from lw_refinenet_ros.cli.evaluate import score
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.inference.torch_engine import TorchEngine

    def validate(model: Network) -> dict[str, Any]:
        engine = TorchEngine(model, card, device=device, precision='bf16', threads=0)
        scores = score(Segmenter(engine, card), list(zip(pairs.images, pairs.masks)))
        del scores['latency_ms']  # of this machine at this moment, not of the weights
        return scores

    return validate
