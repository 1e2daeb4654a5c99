"""The layers of a network as a table: what comes out of each, and what it costs."""

from typing import Any

import pandas as pd
import torch

from torchstudy.data.spec import DataSpec
from torchstudy.families.base import Family
from torchstudy.models.costs import Answering

DEPTH = 9  # of nested modules: deeper than any layer lies


def layer_table(family: Family, data: DataSpec) -> pd.DataFrame:
    """One row per layer of the whole network for one item, by torchinfo, in forward order.

    Columns: layer (its path), kind, output_shape, parameters, multiply_adds.
    """
    import torchinfo

    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        answering = Answering(family, data)
        found = torchinfo.summary(
            answering, input_data={}, depth=DEPTH, verbose=0, cache_forward_pass=False
        )
    rows = [
        {
            "layer": _path(layer),
            "kind": layer.class_name,
            "output_shape": " x ".join(str(size) for size in layer.output_size[1:]),
            "parameters": layer.num_params,
            "multiply_adds": layer.macs,
        }
        for layer in found.summary_list
        if layer.is_leaf_layer
    ]
    return pd.DataFrame(rows)


def _path(layer: Any) -> str:
    """The layer's name with those of the modules it lies in, without the outermost two."""
    names: list[str] = []
    while layer is not None and layer.depth > 1:
        names.insert(0, str(layer.var_name))
        layer = layer.parent_info
    return ".".join(names)
