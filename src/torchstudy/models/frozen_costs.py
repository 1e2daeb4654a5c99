"""What frozen encoders cost: measured once per machine, asked for by every trial on features."""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from torchstudy.data.spec import DataSpec
from torchstudy.families.phases import FrozenEncoder
from torchstudy.files import cache_folder, write_json

Costs = Mapping[str, float]
FORMAT = 1  # raised whenever costs are counted in another way


def kept_costs(
    encoder: FrozenEncoder, data: DataSpec, names: set[str], measured: Callable[[], Costs]
) -> Costs:
    """The costs `names` of an encoder on one item of the data, as kept, or as `measured` now.

    They lie in the cache's folder `costs`, a few hundred bytes for each encoder, image shape and
    machine. Where nothing can be written they are measured every time.
    """
    shape = (data.views, len(encoder.preprocessing.mean), data.height, data.width)
    text = json.dumps([FORMAT, encoder.key, shape, platform.node(), platform.machine()])
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    path = cache_folder() / "costs" / f"{name}.json"
    found = _read(path)
    if not names <= found.keys():
        found = measured()
        try:
            write_json(path, dict(found))
        except OSError:  # a cache that can only be read
            return found
    return found


def _read(path: Path) -> Costs:
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in stated.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
