# SPDX-License-Identifier: Apache-2.0
"""Damaged weights files and label files: each must be taken whole, or refused in one clear line."""

import json
import math
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml

from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.weights import ENTRY, WeightsError, load_model

LONGEST_REASON = 1000  # characters
PATIENCE_S = 60  # for one file
ODD = (
    None, True, -1, 0, 1, 255, 256, 1 << 40, 1 << 200, -0.5, 1e308, math.nan, math.inf,
    '', 'x', 'x' * 100_000, 'ünï\n\x00\x1b[31m', [], [[]], {}, {'classes': []},
    [0, 0, 0], [math.inf] * 3, ['1', '2', '3'], [1] * 1000, 'lw_refinenet_resnet152', 'refinenet_resnet50',
)  # fmt: skip


@contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f'took longer than {PATIENCE_S} s')

    signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)


def _yaml(value: object) -> bytes:
    """Write YAML of any depth; the reader has Python's usual limit."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        return yaml.safe_dump(value).encode()
    finally:
        sys.setrecursionlimit(limit)


def _check_reason(said: str) -> None:
    assert said and said.isprintable() and len(said) < LONGEST_REASON, f'no clear line: {said[:300]!r}'


def odd_value(value: object, rng: random.Random) -> object:
    """Put something odd somewhere into a value of JSON or YAML."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        copy = value.copy()
        key = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
        what = rng.random()
        if what < 0.1:
            del copy[key]
        elif what < 0.2:
            new = rng.choice(('surprise', 'width', 'x' * 1000)) if isinstance(copy, dict) else 0
            copy = {**copy, new: rng.choice(ODD)} if isinstance(copy, dict) else [*copy, rng.choice(ODD)]
        else:
            copy[key] = odd_value(copy[key], rng)
        return copy
    if rng.random() < 0.05:
        deep: object = 0
        for _ in range(rng.choice((10, 100, 400))):
            deep = [deep] if rng.random() < 0.5 else {'a': deep}
        return deep
    return rng.choice(ODD)


def damaged_weights(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Damage a weights file; return what was done to it, and the bytes."""
    length = int.from_bytes(content[:8], 'little')
    kind = rng.choice(('cut', 'header length', 'header bytes', 'tensor bytes', 'card', 'random header'))
    if kind == 'cut':
        return kind, content[: rng.choice((rng.randrange(len(content)), rng.randrange(length + 8)))]
    if kind == 'header length':
        wrong = rng.choice(
            (0, 1, length - 1, length + 1, 1 << 31, (1 << 64) - 1, rng.randrange(len(content)))
        )
        return kind, wrong.to_bytes(8, 'little') + content[8:]
    if kind == 'random header':
        size = rng.randrange(1, 400)
        return kind, size.to_bytes(8, 'little') + rng.randbytes(size) + content[8 + length :]
    if kind == 'card':
        header = json.loads(content[8 : 8 + length])
        card = json.loads(header['__metadata__'][ENTRY])
        for _ in range(rng.randint(1, 3)):
            card = odd_value(card, rng)
        header['__metadata__'][ENTRY] = json.dumps(card)
        text = json.dumps(header).encode()
        return kind, len(text).to_bytes(8, 'little') + text + content[8 + length :]
    changed = bytearray(content)
    first, last = (8, 8 + length) if kind == 'header bytes' else (8 + length, len(content))
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return kind, bytes(changed)


def load_damaged(weights: Path, count: int, seed: int, folder: Path, progress=lambda done: None) -> Counter:
    """Load so many damaged copies of a weights file; return how many met which fate, by damage and fate.

    Raises:
        AssertionError: one was neither taken with sound values nor refused in one clear line.
    """
    rng, content = random.Random(seed), weights.read_bytes()
    path = folder / 'damaged.safetensors'
    fates: Counter = Counter()
    for index in range(count):
        kind, bad = damaged_weights(content, rng)
        path.write_bytes(bad)
        try:
            with _in_time():
                fates[kind, _load(path)] += 1
        except Exception as error:
            kept = path.rename(folder / f'bad_{seed}_{index}.safetensors')
            raise AssertionError(
                f'{kind}, kept as {kept}: {type(error).__name__}: {str(error)[:500]}'
            ) from error
        progress(index + 1)
    return fates


def _load(path: Path) -> str:
    try:
        network, card = load_model(path)
    except WeightsError as error:
        _check_reason(str(error))
        assert str(path) in str(error), 'the file is not named'
        return 'refused'
    assert all(math.isfinite(v) for v in (*card.mean, *card.std, card.temperature)), 'mean, std, temperature'
    assert all(bool(torch.isfinite(p).all()) for p in network.parameters()), 'parameters'
    assert network.decoder.classifier.out_channels == card.num_classes
    return 'taken'


def read_damaged_labels(source: Path, count: int, seed: int, folder: Path) -> Counter:
    """Read so many damaged copies of a label file; return how many were taken and refused."""
    rng, content = random.Random(seed), source.read_bytes()
    path = folder / 'labels.yaml'
    fates: Counter = Counter()
    for index in range(count):
        if index % 2:
            bad = _yaml(odd_value(yaml.safe_load(content), rng))
        else:
            changed = bytearray(content)
            for _ in range(rng.randint(1, 6)):
                changed[rng.randrange(len(changed))] = rng.choice(b'\x00\xff:{}[]-&*!|>"\'%@` \n\t9')
            bad = bytes(changed)
        path.write_bytes(bad)
        try:
            with _in_time():
                LabelSet.from_yaml(path)
            fates['taken'] += 1
        except ValueError as error:
            said = str(error)
            assert said.startswith(str(path)), f'the file is not named: {said[:300]!r}'
            _check_reason(said)
            fates['refused'] += 1
        except Exception as error:
            raise AssertionError(f'{bad!r}: {type(error).__name__}: {error}') from error
    return fates
