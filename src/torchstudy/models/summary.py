"""The layers of a network as a table: what comes out of each, and what it costs."""

import pandas as pd
import torch

from torchstudy.data.spec import DataSpec
from torchstudy.families.base import Family
from torchstudy.models.costs import Answering, operations_by_call

DEPTH = 99  # of nested modules: deeper than any layer lies


def layer_table(family: Family, data: DataSpec) -> pd.DataFrame:
    """One row per layer of the whole network for one item, in forward order.

    A layer is a module that calls no other. Columns: layer (its path), kind, output_shape,
    parameters, multiply_adds, which are half of what `costs_of` counts as flops. A layer that is
    called again has another row, without parameters. Shapes and parameters are torchinfo's; its
    multiply-adds are not used: they are those of one place where a linear layer sees several.
    """
    import torchinfo

    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        answering = Answering.whole(family, data)
        found = torchinfo.summary(
            answering, input_data={}, depth=DEPTH, verbose=0, cache_forward_pass=False
        ).summary_list
        operations = operations_by_call(answering)
    paths = {id(module): path for path, module in answering.network.named_modules()}
    depths = [layer.depth for layer in found]
    rows = [
        {
            "layer": paths[layer.layer_id],
            "kind": layer.class_name,
            "output_shape": " x ".join(str(size) for size in layer.output_size[1:]),
            "parameters": 0 if layer.is_recursive else layer.num_params,
            "multiply_adds": operations[layer.layer_id].pop(0) // 2,
        }
        for layer, depth, following in zip(found, depths, [*depths[1:], 0], strict=True)
        if following <= depth
    ]
    return pd.DataFrame(rows)
