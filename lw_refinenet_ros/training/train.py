# SPDX-License-Identifier: Apache-2.0
"""The training loop, which resumes after a kill at any time with the same result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lw_refinenet_ros.inference.choice import has_bf16
from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.model.network import Network
from lw_refinenet_ros.model.weights import Card, save_model
from lw_refinenet_ros.training.batches import Batch, Batches
from lw_refinenet_ros.training.config import TrainingConfig
from lw_refinenet_ros.training.dataset import Pairs
from lw_refinenet_ros.training.depthwise import speed_up_depthwise
from lw_refinenet_ros.training.losses import class_weights, segmentation_loss
from lw_refinenet_ros.training.pace import Pace, shown_duration
from lw_refinenet_ros.training.run_folder import RunFolder
from lw_refinenet_ros.training.traps import only_class

__all__ = ['Trainer']

Validate = Callable[[Network], dict[str, Any]]

REPORT_S = 10.0  # between two progress lines within an epoch
SAVE_EVERY = 10  # times what a save takes, at least: short epochs are not all saved


class Trainer:
    """Trains one network in a run folder: `state`, `last` and `best.safetensors`, `log.csv`, `curves.svg`.

    One process at a time may use a folder: see `lock_folder`.

    Args:
        model: the initial network, trained in place.
        card: the card of the weights files; `training` and `metrics` are filled in here.
        pairs: the images and masks to train on.
        config: the options.
        run: the folder of the run; an unfinished run in it is resumed.
        unlabelled: images with pseudo-labels, for self-training; see `draft_pseudo_labels`.
        held_out: the images and masks that `validate` scores.
        device: 'cpu' or 'cuda'.
        validate: returns `{'miou': ..., ...}` of the averaged network; None without validation data.
        report: called with each progress line.

    Raises:
        ValueError: the folder has a run with other options, classes, images or initial weights, or a
            damaged state.
    """

    def __init__(
        self,
        model: Network,
        card: Card,
        pairs: Pairs,
        config: TrainingConfig,
        run: Path,
        *,
        unlabelled: Pairs | None = None,
        held_out: Pairs | None = None,
        device: str = 'cpu',
        validate: Validate | None = None,
        report: Callable[[str], None] = print,
    ) -> None:
        self.config, self.files = config, RunFolder(run)
        self.pairs, self.unlabelled = pairs, unlabelled.images if unlabelled else ()
        self.held_out = held_out.images if held_out else ()
        self.device, self.validate, self.report = torch.device(device), validate, report
        self.card = card
        torch.manual_seed(config.seed)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bf16 = has_bf16(device)
        if self.bf16 and device == 'cpu':
            speed_up_depthwise(self.model)
        # views of the network's weights, which change in place
        self.weights_now = {k: v for k, v in self.model.state_dict().items() if v.is_floating_point()}
        self.average = {k: v.clone() for k, v in self.weights_now.items()}
        self.mean = torch.tensor(card.mean, device=self.device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(card.std, device=self.device).view(1, 3, 1, 1) * 255
        self.batches = Batches(pairs, config, unlabelled, pinned=self.device.type == 'cuda')
        self.steps_per_epoch = self.batches.steps
        self.epoch = 0
        self.log: list[dict[str, Any]] = []
        # the last finished epoch until it is saved: log, metrics, whether it is the best, tensors
        self._unsaved: tuple[list[dict[str, Any]], dict[str, Any], bool, dict[str, Tensor]] | None = None
        self.pace = Pace()
        self.optimizer = torch.optim.AdamW(self._groups())
        counts = pairs.counts[: card.num_classes]
        weights = class_weights(counts, config.class_weight_offset)
        self.weights = None if weights is None else weights.to(self.device)
        self._resume()

    @property
    def best_miou(self) -> float:
        """The best validation so far; 0 before the first."""
        return max((row['miou'] for row in self.log if row['miou'] is not None), default=0.0)

    def train(self) -> None:
        """Train until the last epoch; write state, log and weights after each, but of short ones only some.

        An interrupt (KeyboardInterrupt) is raised on after the last finished epoch is saved.

        Raises:
            ValueError: the loss is not finite, or memory is exhausted.
            OSError: the disk is full; earlier files are kept.
        """
        if self.epoch < self.config.epochs:
            self.files.check_space(sum(p.numel() for p in self.model.parameters()))
        self.files.remove_leftovers()
        started = time.monotonic() - (self.log[-1]['seconds'] if self.log else 0)
        self._saved = started
        with ThreadPoolExecutor(self.config.workers) as pool:
            batches = self.batches.of_epochs(range(self.epoch, self.config.epochs), pool)
            try:
                while self.epoch < self.config.epochs:
                    self._run_epoch(batches, started)
            except KeyboardInterrupt:
                self._keep_last_epoch()
                raise

    def _run_epoch(self, batches: Iterator[Batch], started: float) -> None:
        config = self.config
        crops = f'{config.batch_size} crops of {config.crop_width}x{config.crop_height} a step'
        remedy = 'make batch_size, the crops or the width of the decoder smaller'
        with _naming_lack_of_memory(f'in epoch {self.epoch + 1}, with {crops}', remedy):
            loss = self._train_epoch(batches)
        self.epoch += 1
        remedy = 'make the images of --val smaller, which are segmented whole'
        with _naming_lack_of_memory(f'in the validation after epoch {self.epoch}', remedy):
            metrics = self._validate()
        row = {
            'epoch': self.epoch,
            'loss': round(loss, 4),
            'miou': metrics.get('miou'),
            'seconds': round(time.monotonic() - started),
        }
        better = (row['miou'] or 0.0) > self.best_miou
        tensors = {name: tensor.detach().to('cpu', copy=True) for name, tensor in self._tensors().items()}
        self._unsaved = [*self.log, row], metrics, better, tensors
        self.log = self._unsaved[0]
        now = time.monotonic()
        if better or self._is_due(self.epoch) or now - self._saved >= SAVE_EVERY * self.pace.mean_s('save'):
            with self.pace.measure('save'):
                self._save(metrics, best=better)
            self._unsaved = None
            self._saved = time.monotonic()
        shown = f'  val mIoU {row["miou"]:.1%}' if row['miou'] is not None else ''
        left = self._left(self.epoch)
        self.report(f'epoch {self.epoch}/{self.config.epochs}  loss {loss:.3f}{shown}  {left} left')

    def _keep_last_epoch(self) -> None:
        """Save the last finished epoch, from which training may have gone on, and report which it is."""
        if self._unsaved is not None:
            self.log, metrics, best, tensors = self._unsaved
            self.epoch = self.log[-1]['epoch']
            self._restore(tensors)
            self._save(metrics, best=best)
            self._unsaved = None
        done = f'after epoch {self.log[-1]["epoch"]}' if self.log else 'before the end of epoch 1'
        remedy = 'the same command resumes it there' if self.log else 'the same command starts it anew'
        self.report(f'the run in {self.files.path} was interrupted; it stands {done}: {remedy}')

    def _left(self, epoch: int, steps: int = 0) -> str:
        """Predict, in words, the time left after so many epochs and so many steps of the next."""
        to_come = range(epoch + 1, self.config.epochs + 1)
        counts = {
            'step': len(to_come) * self.steps_per_epoch - steps,
            'validation': sum(map(self._is_due, to_come)) if self.validate else 0,
            'save': sum(map(self._is_due, to_come)),
        }
        more = 'more than ' if counts['validation'] and not self.pace.knows('validation') else ''
        return more + shown_duration(self.pace.left_s(counts))

    def _is_due(self, epoch: int) -> bool:
        """Return whether to validate and save after an epoch; the first shows early what is amiss."""
        return epoch in (1, self.config.epochs) or epoch % self.config.validate_every == 0

    def _groups(self) -> list[dict[str, Any]]:
        groups = []
        for part, rate in (('encoder', self.config.encoder_rate), ('decoder', self.config.decoder_rate)):
            parameters = list(getattr(self.model, part).parameters())
            for decayed in (True, False):
                chosen = [p for p in parameters if (p.ndim > 1) == decayed]
                decay = self.config.weight_decay if decayed else 0.0
                groups.append({'params': chosen, 'lr': rate, 'rate': rate, 'weight_decay': decay})
        return groups

    def _train_epoch(self, batches: Iterator[Batch]) -> float:
        self.model.train()
        torch.manual_seed(self.config.seed + self.epoch)
        losses = []
        reported = time.monotonic()
        for index in range(self.steps_per_epoch):
            with self.pace.measure('step'):
                losses.append(self._step(self.epoch * self.steps_per_epoch + index, next(batches)))
                if index + 1 == self.steps_per_epoch:
                    loss = float(torch.stack(losses).mean())  # waits for a GPU, which lags behind
            now = time.monotonic()
            if now - reported >= REPORT_S and index + 1 < self.steps_per_epoch:
                reported = now
                self.report(
                    f'epoch {self.epoch + 1}/{self.config.epochs}: step {index + 1}/{self.steps_per_epoch}, '
                    f'loss {losses[-1]:.3f}, {self._left(self.epoch, index + 1)} left'
                )
        if not math.isfinite(loss):
            raise ValueError(f'the loss is {loss} in epoch {self.epoch + 1}: lower the learning rates')
        return loss

    def _step(self, step: int, batch: Batch) -> Tensor:
        """Train on one batch; return its loss."""
        for group in self.optimizer.param_groups:
            group['lr'] = group['rate'] * self._schedule(step)
        loss = self._loss(*batch.on(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self._update_average(step)
        return loss.detach()

    def _schedule(self, step: int) -> float:
        warmup = self.config.warmup_epochs * self.steps_per_epoch
        progress = step / (self.config.epochs * self.steps_per_epoch)
        return float(min(1.0, (step + 1) / max(warmup, 1)) * (1 - progress) ** 0.9)

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        x = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model.at_network_size(x)
        size = self.config.batch_size
        loss = segmentation_loss(logits[:size], labels[:size], self.weights, self.config)
        if len(labels) == size:
            return loss
        confident = (labels[size:] != UNLABELLED).float().mean()  # their loss is a mean over all pixels
        pseudo = segmentation_loss(logits[size:], labels[size:], self.weights, self.config)
        return loss + self.config.pseudo_weight * confident * pseudo

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        average, current = list(self.average.values()), list(self.weights_now.values())
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(average, current, None)  # few kernels: a GPU waits for each

    def _averaged(self, use: Callable[[Network], Any]) -> Any:
        """Call `use` with the network temporarily holding the averaged weights."""
        current = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(current | self.average)
        try:
            return use(self.model.eval())
        finally:
            self.model.load_state_dict(current)

    def _validate(self) -> dict[str, Any]:
        if self.validate is None or not self._is_due(self.epoch):
            return {}
        with self.pace.measure('validation'):
            metrics: dict[str, Any] = self._averaged(self.validate)
        if name := only_class(metrics.get('per_class_iou', {})):
            self.report(
                f'warning: the network predicts nothing but {name}; '
                'if this persists, check the masks and the learning rates'
            )
        return metrics

    def _save(self, metrics: dict[str, Any], *, best: bool) -> None:
        training = dict(self.card.training, epochs_done=self.epoch, config=asdict(self.config))
        # int8 ranges on the card belong to the earlier weights
        card = replace(self.card, training=training, metrics=metrics, quantization={})

        def save_weights(model: Network) -> None:
            for name in ['last', *(['best'] if best else [])]:
                save_model(self.files.path / f'{name}.safetensors', model, card)

        self._averaged(save_weights)
        meta = {'epoch': self.epoch, 'log': self.log, 'made_of': self._made_of()}
        self.files.save(meta, self._tensors())

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f'model/{k}': v for k, v in self.model.state_dict().items()}
        tensors |= {f'average/{k}': v for k, v in self.average.items()}
        for name, parameter in self.model.named_parameters():
            tensors |= {f'{key}/{name}': value for key, value in self.optimizer.state[parameter].items()}
        return tensors

    def _made_of(self) -> dict[str, Any]:
        """Return what must be the same when a run is resumed."""
        return {
            **asdict(self.config),
            'classes': self.card.labels.to_dict()['classes'],
            'images': [path.name for path in self.pairs.images],
            # their folder is named after source, teacher and options
            'unlabelled': [f'{path.parts[-3]}/{path.name}' for path in self.unlabelled],
            'val': [path.name for path in self.held_out],
            'init': self.card.training.get('init'),
            'dials': self.card.dials,
            'normalisation': [*self.card.mean, *self.card.std],
        }

    def _resume(self) -> None:
        state = self.files.load()
        if state is None:
            return
        meta, stored = state
        ours = self._made_of()
        # the state of an earlier version had the defaults, and does not tell the rest
        theirs = {**ours, **asdict(TrainingConfig()), 'unlabelled': [], **meta['made_of']}
        if changed := [name for name, value in ours.items() if theirs[name] != value]:
            raise ValueError(
                f'{self.files.path} holds a run with other {", ".join(changed)}: choose another folder; '
                f'--init {self.files.path}/last.safetensors starts from its weights'
            )
        self.epoch, self.log = meta['epoch'], meta['log']
        self._restore(stored)
        done = 'is finished' if self.epoch >= self.config.epochs else 'is resumed'
        self.report(f'the run in {self.files.path} {done} after epoch {self.epoch}')

    def _restore(self, stored: dict[str, Tensor]) -> None:
        """Put back network, averaged weights and optimizer as `_tensors` gave them."""
        tensors = {name: tensor.to(self.device) for name, tensor in stored.items()}

        def part(key: str) -> dict[str, Tensor]:
            return {k.removeprefix(f'{key}/'): v for k, v in tensors.items() if k.startswith(f'{key}/')}

        self.model.load_state_dict(part('model'))
        average = part('average')
        self.average = {name: average[name] for name in self.average}
        step, first, second = part('step'), part('exp_avg'), part('exp_avg_sq')
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter] = {
                'step': step[name].cpu(),
                'exp_avg': first[name],
                'exp_avg_sq': second[name],
            }


@contextmanager
def _naming_lack_of_memory(when: str, remedy: str) -> Iterator[None]:
    """Raise a ValueError with the remedy if memory runs out; on the CPU, PyTorch has a plain RuntimeError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        kinds = (MemoryError, torch.cuda.OutOfMemoryError)
        if not isinstance(error, kinds) and 'allocate memory' not in str(error):
            raise
        raise ValueError(f'out of memory {when}: {remedy}') from error
