"""What the forkserver imports once, so that its children start with it.

`torch._dynamo` is among it because the first optimizer step of a process imports it (3.6 s), even
where nothing is compiled.
"""

import sklearn.linear_model
import sklearn.preprocessing
import torch._dynamo

assert sklearn.linear_model
assert sklearn.preprocessing
assert torch._dynamo
