# SPDX-License-Identifier: Apache-2.0
"""The published checkpoints: upstream's tensor names, which appear nowhere else, and ours."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lw_refinenet_ros.model.network import Network, build_model, compare_shapes
from lw_refinenet_ros.one_line import one_line

__all__ = ['PUBLISHED', 'network_from_upstream', 'upstream_name']

PUBLISHED = (
    *('lw_refinenet_resnet50', 'lw_refinenet_resnet101', 'lw_refinenet_resnet152'),
    'lw_refinenet_mobilenet_v2',
    *('refinenet_resnet50', 'refinenet_resnet101', 'refinenet_resnet152'),
)
WRAPPINGS = ('state_dict', 'model_state_dict', 'model', 'segmenter')
CLASSIFIERS = ('clf_conv.bias', 'segm.bias')
LONGEST_NAME = 100  # characters
COUNTER = 'num_batches_tracked'  # of batch norm; old checkpoints lack it and nothing needs it


def network_from_upstream(checkpoint: object, architecture: str | None = None) -> tuple[str, Network]:
    """Build the network that a published checkpoint holds.

    Args:
        checkpoint: tensors by upstream's names, perhaps with a prefix such as `module.`, perhaps under one
            of `WRAPPINGS`.
        architecture: one of `PUBLISHED`; None takes the one whose tensors are most alike.

    Returns:
        the architecture's name, and the network in evaluation mode with the checkpoint's number of classes.

    Raises:
        ValueError: tensors are missing, surplus or misshapen: all are named.
    """
    if architecture not in (None, *PUBLISHED):
        raise ValueError(f'no checkpoints of {architecture!r} were published, only {", ".join(PUBLISHED)}')
    tensors = _unwrap(checkpoint)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    num_classes = next((shapes[name][0] for name in CLASSIFIERS if shapes.get(name)), 0)
    if num_classes == 0:
        raise ValueError(f'not a checkpoint of RefineNet: it has no {" and no ".join(CLASSIFIERS)}')
    candidates = {}
    for name in [architecture] if architecture else PUBLISHED:
        with torch.device('meta'):  # shapes without memory
            network = build_model(name, num_classes)
        state = {n: tensor for n, tensor in network.state_dict().items() if not n.endswith(COUNTER)}
        ours = {upstream_name(name, n): n for n in state}
        expected = {theirs: tuple(state[n].shape) for theirs, n in ours.items()}
        candidates[name] = network, ours, expected
    best = min(candidates, key=lambda name: len(candidates[name][2].items() ^ shapes.items()))
    network, ours, expected = candidates[best]
    if faults := compare_shapes(shapes, expected):
        raise ValueError(f'the tensors are not those of {best}: {faults}')
    network = network.to_empty(device='cpu')
    network.load_state_dict({n: tensors[theirs] for theirs, n in ours.items()}, strict=False)
    return best, network.eval()


def upstream_name(architecture: str, name: str) -> str:
    """Return upstream's name of one of our tensors."""
    return (_mobilenet_name if architecture.endswith('mobilenet_v2') else _resnet_name)(name)


def _resnet_name(name: str) -> str:
    kinds = {'0': 'conv', '1': 'bn'}
    match name.split('.'):
        case ['encoder', 'stem', layer, tensor]:
            return f'{kinds[layer]}1.{tensor}'
        case ['encoder', 'stages', stage, block, 'shortcut', layer, tensor]:
            return f'layer{int(stage) + 1}.{block}.downsample.{layer}.{tensor}'
        case ['encoder', 'stages', stage, block, part, layer, tensor]:
            number = ('reduce', 'filter', 'expand').index(part) + 1
            return f'layer{int(stage) + 1}.{block}.{kinds[layer]}{number}.{tensor}'
        case ['decoder', 'classifier', tensor]:
            return f'clf_conv.{tensor}'
        case ['decoder', 'fusions', level, *layer]:
            path = 4 - int(level)  # upstream counts from the coarsest
            match layer:
                case ['reduce', _, tensor]:
                    return f'p_ims1d2_outl{path}_dimred.{tensor}'
                case ['adapt_own', tensor]:
                    return f'adapt_stage{path}_b2_joint_varout_dimred.{tensor}'
                case ['adapt', tensor]:
                    return f'mflow_conv_g{path - 1}_b3_joint_varout_dimred.{tensor}'
                case ['pooling', 'convs', index, tensor]:
                    return f'mflow_conv_g{path}_pool.0.{int(index) + 1}_outvar_dimred.{tensor}'
                case ['refine' | 'output' as place, unit, conv, tensor]:
                    prefix = {'refine': f'adapt_stage{path}_b', 'output': f'mflow_conv_g{path}_b'}[place]
                    suffix = {'first': '', 'second': '_relu_varout_dimred'}[conv]
                    return f'{prefix}.0.{int(unit) + 1}_conv{suffix}.{tensor}'
    raise KeyError(name)


def _mobilenet_name(name: str) -> str:
    match name.split('.'):
        case ['encoder', 'stem', layer, tensor]:
            return f'layer1.{layer}.{tensor}'
        case ['encoder', 'stages', stage, block, part, layer, tensor]:
            number = ('expand', 'depthwise', 'project').index(part)
            return f'layer{int(stage) + 2}.{block}.output.{number}.{layer}.{tensor}'
        case ['decoder', 'fusions', level, 'reduce', index, tensor]:
            return f'conv{(3, 4, 5, 7)[int(level)] + int(index)}.{tensor}'
        case ['decoder', 'fusions', level, 'adapt', tensor]:
            return f'conv_adapt{int(level) + 2}.{tensor}'
        case ['decoder', 'fusions', level, 'pooling', 'convs', index, tensor]:
            return f'crp{int(level) + 1}.0.{int(index) + 1}_outvar_dimred.{tensor}'
        case ['decoder', 'classifier', tensor]:
            return f'segm.{tensor}'
    raise KeyError(name)


def _unwrap(checkpoint: object) -> dict[str, Tensor]:
    """Find the tensors in a checkpoint, by their names without prefix."""
    for _ in WRAPPINGS:  # one may hold another; a mapping that holds itself has no end
        inner = [key for key in WRAPPINGS if isinstance(checkpoint, Mapping) and key in checkpoint]
        if inner and isinstance(checkpoint, Mapping):
            checkpoint = checkpoint[inner[0]]
    if not isinstance(checkpoint, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in checkpoint.items()
    ):
        raise ValueError(f'no state dict of tensors, neither bare nor under {", ".join(WRAPPINGS)}')
    for name, tensor in checkpoint.items():
        plain = tensor.layout is torch.strided and tensor.device.type == 'cpu' and not tensor.is_quantized
        if not plain or tensor.is_complex():
            kind = f'{tensor.dtype}, {tensor.layout}, on {tensor.device}'.replace('torch.', '')
            raise ValueError(f'{one_line(name)[:LONGEST_NAME]} is {kind}: only dense real tensors are read')
    ends = [(name, end) for name in checkpoint for end in CLASSIFIERS if name.endswith(f'.{end}')]
    prefix = ends[0][0].removesuffix(ends[0][1]) if ends else ''  # of DataParallel, compile or Lightning
    tensors = {name.removeprefix(prefix): tensor for name, tensor in checkpoint.items()}
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
