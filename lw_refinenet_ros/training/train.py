# SPDX-License-Identifier: Apache-2.0
"""The training loop: resumable after a kill at any moment, to the same result."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from lw_refinenet_ros.files import write_atomically
from lw_refinenet_ros.image.labels import UNLABELLED
from lw_refinenet_ros.model.network import Network
from lw_refinenet_ros.model.weights import Card, save_model
from lw_refinenet_ros.training.curves import draw_curves
from lw_refinenet_ros.training.dataset import Pairs, random_crop, read_pair
from lw_refinenet_ros.training.depthwise import speed_up_depthwise

if TYPE_CHECKING:
    from pathlib import Path

    from lw_refinenet_ros.training.config import TrainingConfig

__all__ = ['Trainer']

Validate = Callable[[Network], dict[str, Any]]


class Trainer:
    """Trains one network in a run folder: `state`, `last` and `best.safetensors`, `log.csv`, `curves.svg`.

    Args:
        model: the network to start from; trained in place.
        card: what the weights files will say; `training` and `metrics` are filled in here.
        pairs: the training data.
        config: the dials.
        run: folder of the run; an unfinished run in it is taken up again.
        device: 'cpu' or 'cuda'.
        validate: gives `{'miou': ..., ...}` for the averaged network; None without validation data.
        report: takes one line of progress.

    """

    def __init__(
        self,
        model: Network,
        card: Card,
        pairs: Pairs,
        config: TrainingConfig,
        run: Path,
        *,
        device: str = 'cpu',
        validate: Validate | None = None,
        report: Callable[[str], None] = print,
    ) -> None:
        self.config, self.pairs, self.run = config, pairs, run
        self.device, self.validate, self.report = torch.device(device), validate, report
        self.card = card
        torch.manual_seed(config.seed)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == 'cpu':
            speed_up_depthwise(self.model)
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.mean = torch.tensor(card.mean, device=self.device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(card.std, device=self.device).view(1, 3, 1, 1) * 255
        self.steps_per_epoch = math.ceil(len(pairs) / config.batch_size)
        self.epoch = 0
        self.log: list[dict[str, Any]] = []
        self.data = [read_pair(*pair) for pair in zip(pairs.images, pairs.masks)]
        self.optimizer = torch.optim.AdamW(self._groups())
        self.weights = self._class_weights()
        self._resume()

    @property
    def best_miou(self) -> float:
        """The best validation so far; 0 before the first."""
        return max((row['miou'] for row in self.log if row['miou'] is not None), default=0.0)

    def train(self) -> None:
        """Run until the last epoch; state, log and weights are written after each."""
        started, first = time.monotonic(), self.epoch
        with ThreadPoolExecutor(self.config.workers) as pool:
            while self.epoch < self.config.epochs:
                loss = self._train_epoch(pool)
                self.epoch += 1
                metrics = self._validate()
                spent = time.monotonic() - started
                left = spent / (self.epoch - first) * (self.config.epochs - self.epoch)
                row = {
                    'epoch': self.epoch,
                    'loss': round(loss, 4),
                    'miou': metrics.get('miou'),
                    'seconds': round(spent),
                }
                better = (row['miou'] or 0.0) > self.best_miou
                self.log.append(row)
                self._save(metrics, best=better)
                shown = f'  val mIoU {row["miou"]:.1%}' if row['miou'] is not None else ''
                done = f'epoch {self.epoch}/{self.config.epochs}'
                self.report(f'{done}  loss {loss:.3f}{shown}  {left / 60:.0f} min left')

    def _groups(self) -> list[dict[str, Any]]:
        groups = []
        for part, rate in (('encoder', self.config.encoder_rate), ('decoder', self.config.decoder_rate)):
            parameters = list(getattr(self.model, part).parameters())
            for decayed in (True, False):
                chosen = [p for p in parameters if (p.ndim > 1) == decayed]
                decay = self.config.weight_decay if decayed else 0.0
                groups.append({'params': chosen, 'lr': rate, 'rate': rate, 'weight_decay': decay})
        return groups

    def _class_weights(self) -> Tensor | None:
        if self.config.class_weight_offset == 0:
            return None
        counts = np.sum(
            [np.bincount(mask.ravel(), minlength=256)[:UNLABELLED] for _, mask in self.data], axis=0
        )
        counts = counts[: self.card.num_classes].astype(np.float64)
        weights = 1 / np.log(self.config.class_weight_offset + counts / max(counts.sum(), 1))
        return torch.tensor(weights / weights.mean(), dtype=torch.float32, device=self.device)

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator[tuple[Tensor, Tensor]]:
        """Give (N, 3, h, w) uint8 and (N, h, w) int64 of one epoch, prepared ahead in the pool's threads."""
        size = self.config.batch_size
        order = np.random.default_rng((self.config.seed, self.epoch)).permutation(len(self.data))
        # Every batch is full, since batch norm needs it: some images come twice in an epoch.
        order = np.resize(order, -(-len(order) // size) * size)

        def crop(position: int) -> tuple[Tensor, Tensor]:
            random = np.random.default_rng((self.config.seed, self.epoch, position))
            image, label = self.data[order[position]]
            image, label = random_crop(image, label, self.config, random)
            return torch.from_numpy(image), torch.from_numpy(label)

        futures = [pool.submit(crop, i) for i in range(min(2 * size, len(order)))]
        for start in range(0, len(order), size):
            images, labels = zip(*(future.result() for future in futures[:size]))
            ahead = range(start + 2 * size, min(start + 3 * size, len(order)))
            futures = futures[size:] + [pool.submit(crop, i) for i in ahead]
            yield torch.stack(images).permute(0, 3, 1, 2), torch.stack(labels).long()

    def _train_epoch(self, pool: ThreadPoolExecutor) -> float:
        self.model.train()
        torch.manual_seed(self.config.seed + self.epoch)
        losses = []
        for index, (images, labels) in enumerate(self._batches(pool)):
            step = self.epoch * self.steps_per_epoch + index
            for group in self.optimizer.param_groups:
                group['lr'] = group['rate'] * self._schedule(step)
            loss = self._loss(images.to(self.device), labels.to(self.device))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self._update_average(step)
            losses.append(loss.detach())
            if (index + 1) % 20 == 0:
                self.report(
                    f'epoch {self.epoch + 1}: step {index + 1}/{self.steps_per_epoch}, loss {losses[-1]:.3f}'
                )
        return float(torch.stack(losses).mean())

    def _schedule(self, step: int) -> float:
        warmup = self.config.warmup_epochs * self.steps_per_epoch
        progress = step / (self.config.epochs * self.steps_per_epoch)
        return float(min(1.0, (step + 1) / max(warmup, 1)) * (1 - progress) ** 0.9)

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        x = ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model.at_network_size(x)
        logits = functional.interpolate(
            logits.float(), size=labels.shape[-2:], mode='bilinear', align_corners=False
        )
        scores = logits.log_softmax(1)
        losses = functional.nll_loss(scores, labels, self.weights, ignore_index=UNLABELLED, reduction='none')
        counted = labels != UNLABELLED
        loss = self._cross_entropy(losses, labels, counted)
        if self.config.jaccard:
            loss = loss + self.config.jaccard * _soft_jaccard(scores, labels, counted)
        return loss

    def _cross_entropy(self, losses: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
        """Average the losses of the counted pixels: the hardest, or all by their classes' weights."""
        if self.config.hard_fraction < 1:
            hardest = losses[counted]
            kept = max(1, round(self.config.hard_fraction * hardest.numel()))
            return hardest.topk(min(kept, hardest.numel())).values.mean() if hardest.numel() else losses.sum()
        weights = (
            torch.ones_like(losses)
            if self.weights is None
            else self.weights[labels.clamp(max=len(self.weights) - 1)]
        )
        return losses.sum() / (weights * counted).sum().clamp(min=1)

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def _averaged(self, use: Callable[[Network], Any]) -> Any:
        """Call `use` with the network holding the averaged weights."""
        current = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            return use(self.model.eval())
        finally:
            self.model.load_state_dict(current)

    def _validate(self) -> dict[str, Any]:
        last = self.epoch == self.config.epochs
        if self.validate is None or not (last or self.epoch % self.config.validate_every == 0):
            return {}
        metrics: dict[str, Any] = self._averaged(self.validate)
        return metrics

    def _save(self, metrics: dict[str, Any], *, best: bool) -> None:
        training = dict(self.card.training, epochs_done=self.epoch, config=asdict(self.config))
        card = Card(**{**asdict(self.card), 'training': training, 'metrics': metrics})
        for name in ['last', *(['best'] if best else [])]:
            self._averaged(partial(self._save_weights, self.run / f'{name}.safetensors', card))
        write_atomically(self.run / 'state.safetensors', self._write_state)
        write_atomically(self.run / 'log.csv', self._write_log)
        write_atomically(self.run / 'curves.svg', lambda path: _write_text(path, draw_curves(self.log)))

    @staticmethod
    def _save_weights(path: Path, card: Card, model: Network) -> None:
        save_model(path, model, card)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f'model/{k}': v for k, v in self.model.state_dict().items()}
        tensors |= {f'average/{k}': v for k, v in self.average.items()}
        for name, parameter in self.model.named_parameters():
            tensors |= {f'{key}/{name}': value for key, value in self.optimizer.state[parameter].items()}
        return tensors

    def _write_state(self, path: Path) -> None:
        meta = {'epoch': self.epoch, 'log': self.log, 'config': asdict(self.config)}
        tensors = {name: t.detach().cpu().contiguous() for name, t in self._tensors().items()}
        save_file(tensors, path, metadata={'state': json.dumps(meta)})

    def _write_log(self, path: Path) -> None:
        with path.open('w', newline='') as file:
            writer = csv.DictWriter(file, ['epoch', 'loss', 'miou', 'seconds'])
            writer.writeheader()
            writer.writerows(self.log)

    def _resume(self) -> None:
        path = self.run / 'state.safetensors'
        if not path.is_file():
            return
        with safe_open(path, framework='pt') as file:
            meta = json.loads(file.metadata()['state'])
            if meta['config'] != asdict(self.config):
                changed = [k for k, v in asdict(self.config).items() if meta['config'].get(k) != v]
                msg = f'{self.run} holds a run with other {", ".join(changed)}: choose another folder'
                raise ValueError(msg)
            names = list(file.keys())
            tensors = {name: file.get_tensor(name).to(self.device) for name in names}
        self.epoch, self.log = meta['epoch'], meta['log']

        def part(key: str) -> dict[str, Tensor]:
            return {k.removeprefix(f'{key}/'): v for k, v in tensors.items() if k.startswith(f'{key}/')}

        self.model.load_state_dict(part('model'))
        self.average = part('average')
        step, first, second = part('step'), part('exp_avg'), part('exp_avg_sq')
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter] = {
                'step': step[name].cpu(),
                'exp_avg': first[name],
                'exp_avg_sq': second[name],
            }
        self.report(f'taking up the run in {self.run} after epoch {self.epoch}')


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def _soft_jaccard(scores: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """Give 1 - the soft IoU, averaged over the classes in a batch (Rahman and Wang, ISVC 2016).

    Args:
        scores: log-softmax (N, C, H, W).
        labels: int64 (N, H, W).
        counted: bool (N, H, W), False where there is no label.

    """
    probability = scores.exp() * counted[:, None]
    classes = scores.shape[1]
    ids = torch.where(counted, labels, classes).ravel()
    truth = torch.bincount(ids, minlength=classes + 1)[:classes].float()
    own = probability.gather(1, torch.where(counted, labels, 0)[:, None])[:, 0].ravel()
    overlap = torch.zeros(classes + 1, device=own.device).index_add(0, ids, own)[:classes]
    union = probability.sum((0, 2, 3)) + truth - overlap
    present = truth > 0
    return 1 - (overlap[present] / union[present]).mean()
