"""What `optimize summary` prints: the layers of each family's recipe, and what it costs."""

from typing import TYPE_CHECKING

from torchstudy.data.sources import scan
from torchstudy.errors import RunError, TorchstudyError

if TYPE_CHECKING:
    from torchstudy.families.base import Family
    from torchstudy.study import Study

HEADER = ["layer", "kind", "output", "parameters", "multiply-adds"]


def layer_lines(study: "Study", family: "type[Family]") -> tuple[list[list[str]], str]:
    """One line per layer of the recipe, and one on the costs of the whole network.

    Raises StudyError where the family cannot work on the data, RunError with the traceback of
    the user's own code where it fails.
    """
    from torchstudy.execution.failing import own_traceback
    from torchstudy.fitting import instantiate
    from torchstudy.models.costs import costs_of
    from torchstudy.models.summary import layer_table

    data = scan(study.images).spec()
    study.check(data)
    instance = instantiate(family, study.space_of(family).recipe).family
    try:
        table = layer_table(instance, data)
    except TorchstudyError:
        raise
    except Exception as error:  # a family is a user's code
        raise RunError(
            f"{family.__name__}: its recipe cannot be built:\n{own_traceback(error).rstrip()}"
        ) from error
    lines = [
        [
            str(row["layer"]),
            str(row["kind"]),
            str(row["output_shape"]),
            f"{row['parameters']:,}",
            f"{row['multiply_adds']:,}",
        ]
        for row in table.to_dict("records")
    ]
    costs = costs_of(instance, data)
    return lines, (
        f"in all {costs['parameters']:,.0f} parameters; for one item {costs['flops']:,.0f} "
        f"floating-point operations, {costs['memory'] / 2**20:.1f} MiB, "
        f"{costs['latency_p50']:.2f} ms (95%: {costs['latency_p95']:.2f} ms)"
    )
