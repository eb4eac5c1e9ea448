# SPDX-License-Identifier: Apache-2.0
"""An untrained network so small that it runs in a millisecond."""

from pathlib import Path


def write_tiny_weights(
    path: Path,
    *,
    seed: int,
    names: tuple[str, ...] = ('sky', 'road', 'car'),
    least_size: tuple[int, int] = (0, 0),
) -> Path:
    import torch

    from lw_refinenet_ros.labels import LabelSet
    from lw_refinenet_ros.model.network import build_model
    from lw_refinenet_ros.model.weights import Card, save_model

    torch.manual_seed(seed)
    architecture = 'lw_refinenet_efficientnet_lite0'
    model = build_model(architecture, len(names), width=8, least_size=least_size)
    # Statistics of pictures, and no class that wins everywhere
    pictures = torch.nn.functional.interpolate(torch.randn(4, 3, 12, 16), scale_factor=8, mode='bilinear')
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(pictures)
        model.decoder.classifier.bias -= model.eval()(pictures).mean((0, 2, 3))
    labels = LabelSet('tiny', names, tuple((80 * i, 40, 200 - 60 * i) for i in range(len(names))))
    dials = {'least_size': list(least_size)} if any(least_size) else {}
    save_model(path, model, Card(architecture, 8, labels, (0.5,) * 3, (0.5,) * 3, dials=dials))
    return path
