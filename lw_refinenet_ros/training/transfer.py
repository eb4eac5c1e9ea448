# SPDX-License-Identifier: Apache-2.0
"""Initialise a network with the weights of a trained one, whose classes may differ."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.network import Network
from lw_refinenet_ros.one_line import counted

__all__ = ['CarriedOver', 'carry_over']

HEAD = 'decoder.classifier.'


@dataclass(frozen=True)
class CarriedOver:
    """How the classes of a network relate to those of the trained one."""

    kept: tuple[str, ...]  #: classes of both, by name; their classifier rows are copied
    new: tuple[str, ...]  #: classes of the network only; their rows stay random
    dropped: tuple[str, ...]  #: classes of the trained network only

    def __str__(self) -> str:
        """Describe the transfer in one line."""
        if not (self.new or self.dropped):
            return f'loaded completely, with its {counted(len(self.kept), "class")}'
        groups = (('kept', self.kept), ('new', self.new), ('left out', self.dropped))
        changes = '; '.join(f'{what}: {", ".join(names)}' for what, names in groups if names)
        return f'loaded, except for the classifier, which is new for other classes; {changes}'


@torch.no_grad()
def carry_over(network: Network, labels: LabelSet, trained: Network, trained_labels: LabelSet) -> CarriedOver:
    """Copy all tensors of a trained network, but only the classifier rows of classes of the same name.

    Args:
        network: changed in place.
        labels: its classes.
        trained: the same architecture as `network`, except for the number of classes.
        trained_labels: its classes.
    """
    ours, theirs = network.state_dict(), trained.state_dict()
    network.load_state_dict({k: (ours if k.startswith(HEAD) else theirs)[k] for k in ours})
    kept = tuple(name for name in labels.names if name in trained_labels.names)
    rows = [labels.names.index(name) for name in kept]
    their_rows = [trained_labels.names.index(name) for name in kept]
    classifier, their_classifier = network.decoder.classifier, trained.decoder.classifier
    classifier.weight[rows] = their_classifier.weight[their_rows]
    assert classifier.bias is not None
    assert their_classifier.bias is not None
    classifier.bias[rows] = their_classifier.bias[their_rows]
    return CarriedOver(
        kept,
        tuple(name for name in labels.names if name not in kept),
        tuple(name for name in trained_labels.names if name not in kept),
    )
