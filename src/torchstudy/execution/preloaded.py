"""What the forkserver imports once, so that its children start with it.

A worker imports nothing of its own but the study's file: `torch._dynamo` is among it because the
first optimizer step of a process imports it (3.6 s), even where nothing is compiled, and the rest
because `torch.save`, `numpy.load` and scikit-learn import it when they are first used.
"""

import atexit
import encodings.cp437
import gc
import importlib.readers
import sys

import sklearn.linear_model
import sklearn.preprocessing
import torch._dynamo
import torch.utils.serialization.config

import torchstudy.execution.local
import torchstudy.families.built_in

LOADED = (
    encodings.cp437,
    importlib.readers,
    sklearn.linear_model,
    sklearn.preprocessing,
    torch._dynamo,
    torch.utils.serialization.config,
    torchstudy.execution.local,
    torchstudy.families.built_in,
)

gc.collect()
gc.freeze()  # a child's collections neither visit nor copy what all of them share
if (watching := sys.modules.get("torchstudy.execution.orphaned")) is not None:
    watching.stop_looking()
atexit.register(gc.unfreeze)  # else libraries complain at the end of what was not freed
