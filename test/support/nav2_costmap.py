# SPDX-License-Identifier: Apache-2.0
"""What Nav2's semantic segmentation layer accepts and makes of it, as its sources have it.

Read in its branches rolling a70cf6e, jazzy 274c713 and humble ed01095, which agree on all of this. The
costmap's frame is taken to be that of the cloud.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

LAYER_TYPES = {'plugin': str, 'enabled': bool, 'use_approximate_time_sync': bool, 'observation_sources': str}
SOURCE_TYPES = {
    **dict.fromkeys(('segmentation_topic', 'confidence_topic', 'labels_topic', 'pointcloud_topic'), str),
    **dict.fromkeys(('max_obstacle_distance', 'min_obstacle_distance', 'tile_map_decay_time'), float),
    'use_cost_selection': bool,
    'class_types': list,
}
CLASS_TYPES = {
    'classes': list,
    **dict.fromkeys(('base_cost', 'max_cost', 'mark_confidence', 'samples_to_max_cost'), int),
    'dominant_priority': bool,
}


class Layer:
    """One observation source of the layer.

    `parameters` are the layer's, flat, as rcl parses them. Raises AssertionError where the layer would end
    the costmap's process.
    """

    def __init__(self, parameters: dict[str, object], source: str, resolution: float) -> None:
        self.resolution = resolution
        of_source = {
            n.removeprefix(f'{source}.'): v for n, v in parameters.items() if n.startswith(f'{source}.')
        }
        self._check_types(parameters, of_source)
        assert source in parameters['observation_sources'].split()
        assert of_source['class_types'], 'the layer ends the process: no class_types'
        self.costs: dict[str, dict] = {}
        for kind in of_source['class_types']:
            costs = {n: of_source.get(f'{kind}.{n}', kind_of()) for n, kind_of in CLASS_TYPES.items()}
            for name in costs.pop('classes'):
                self.costs.setdefault(name, costs)  # the first of two wins
        assert self.costs, 'the layer ends the process: no classes'
        self.exact_stamps = not parameters.get('use_approximate_time_sync', True)
        self.nearest, self.farthest = of_source['min_obstacle_distance'], of_source['max_obstacle_distance']
        self.selects_cost = of_source['use_cost_selection']
        self.topics = {n.removesuffix('_topic'): v for n, v in of_source.items() if n.endswith('_topic')}
        self.ids: dict[int, dict] | None = None
        self.critical: list[str] = []
        self.tiles: dict[tuple[int, int], list[tuple[int, int]]] = {}

    @staticmethod
    def _check_types(parameters: dict[str, object], of_source: dict[str, object]) -> None:
        """A parameter of another type than declared ends the process; others are not read."""
        for name, value in parameters.items():
            if '.' not in name:
                assert type(value) is LAYER_TYPES[name], name
        for name, value in of_source.items():
            kind = CLASS_TYPES[name.split('.')[1]] if '.' in name else SOURCE_TYPES[name]
            assert type(value) is kind, name
            assert kind is not list or all(type(each) is str for each in value), name

    def take_label_info(self, classes: list[tuple[int, str]]) -> None:
        self.critical = [name for _, name in classes if name not in self.costs]
        by_name = {name: class_id for class_id, name in classes if name in self.costs}  # the last of two wins
        self.ids = {class_id: self.costs[name] for name, class_id in by_name.items()}

    def take(self, mask, confidence, cloud) -> str:
        """Why the layer drops a frame, or an empty string; it then counts what it saw on each tile."""
        stamps = [message.header.stamp for message in (mask, confidence, cloud)]
        if self.exact_stamps and not stamps[0] == stamps[1] == stamps[2]:
            return 'stamps'
        if mask.width * mask.height != cloud.width * cloud.height:
            return 'sizes'
        if len(mask.data) < mask.width * mask.height:
            return 'short mask'
        assert self.ids is not None, (
            'the layer ends the process: it follows a null pointer before a LabelInfo'
        )
        fields = {f.name: f for f in cloud.fields}
        assert {fields[axis].datatype for axis in 'xyz'} == {7}, 'FLOAT32'
        names = {'names': list('xyz'), 'formats': ['<f4'] * 3, 'offsets': [fields[a].offset for a in 'xyz']}
        points = np.frombuffer(cloud.data, np.dtype(names | {'itemsize': cloud.point_step}))
        best: dict[tuple[int, int], int] = {}
        for index, point in enumerate(points):  # of mask and confidence as tight rows, whatever their step
            x, y, z = (float(point[axis]) for axis in 'xyz')
            if not (math.isfinite(z) and self.nearest < math.hypot(x, y, z) < self.farthest):
                continue
            tile = math.floor(x / self.resolution), math.floor(y / self.resolution)
            if tile not in best or self._is_better(mask, confidence, index, best[tile]):
                best[tile] = index
        for tile, index in best.items():
            if mask.data[index] in self.ids:
                seen = self.tiles.get(tile, [])
                if self.ids[mask.data[index]]['dominant_priority']:
                    seen = [each for each in seen if each[0] == mask.data[index]]
                self.tiles[tile] = [*seen, (mask.data[index], confidence.data[index])]
        return ''

    def _is_better(self, mask, confidence, index: int, other: int) -> bool:
        if not self.selects_cost:
            return confidence.data[index] > confidence.data[other]
        costs = [self.ids.get(mask.data[i], {'max_cost': 0})['max_cost'] for i in (index, other)]
        return costs[0] > costs[1]

    def class_at(self, tile: tuple[int, int]) -> int | None:
        """The class seen most on a tile."""
        seen = self.tiles.get(tile)
        return Counter(class_id for class_id, _ in seen).most_common(1)[0][0] if seen else None

    def cost_at(self, tile: tuple[int, int]) -> int | None:
        winner = self.class_at(tile)
        if winner is None:
            return None
        costs = self.ids[winner]
        confidences = [confidence for class_id, confidence in self.tiles[tile] if class_id == winner]
        enough = len(confidences) >= costs['samples_to_max_cost']
        sure = sum(confidences) / len(confidences) > costs['mark_confidence']
        return costs['max_cost'] if enough and sure else costs['base_cost']
