"""How hard Ax's model works for one proposal: as hard as makes proposals better, and no harder.

To be imported where a model is asked: it loads Ax and BoTorch. Effort is bounded by counts, never
by a clock, so that a proposal stays a function of its question.
"""

from typing import Any

from ax.adapter.registry import Generators
from ax.generation_strategy.dispatch_utils import get_derelativize_config
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generators.torch.botorch_modular.surrogate import SurrogateSpec
from ax.generators.torch.botorch_modular.utils import ModelConfig
from botorch.models import SingleTaskGP
from botorch.optim.fit import fit_gpytorch_mll_scipy

# Measured together: benchmarks/idle.py. Ax goes on to 15,000 iterations of the fit, most of them
# for length scales that do not matter, and with discrete hyperparameters improves 20 of 1,024
# points, alternating between those and the continuous ones. Continuous spaces are quick as is.
FIT_ITERATIONS = 50
RAW_SAMPLES = 256
NUM_RESTARTS = 4


class BriefGP(SingleTaskGP):
    """BoTorch's Gaussian process, as Ax chooses it, fitted in few iterations."""

    def custom_fit(self, mll: Any, **_: object) -> Any:
        """Maximise the marginal likelihood; BoTorch calls this instead of its own loop."""
        fit_gpytorch_mll_scipy(mll.train(), options={"maxiter": FIT_ITERATIONS})
        return mll.eval()


def strategy(*, is_continuous: bool) -> GenerationStrategy:
    """Ax's own model-based node alone: Gaussian process, log noisy expected improvement."""
    effort = {"num_restarts": NUM_RESTARTS, "raw_samples": RAW_SAMPLES}
    options = {} if is_continuous else {"model_gen_options": {"optimizer_kwargs": effort}}
    model = ModelConfig(botorch_model_class=BriefGP, name="BriefGP")
    spec = GeneratorSpec(
        generator_enum=Generators.BOTORCH_MODULAR,
        generator_kwargs={
            "surrogate_spec": SurrogateSpec(model_configs=[model]),
            "transform_configs": get_derelativize_config(derelativize_with_raw_status_quo=True),
        },
        generator_gen_kwargs=options,
    )
    node = GenerationNode(name="MBM", generator_specs=[spec], should_deduplicate=True)
    return GenerationStrategy(name="torchstudy", nodes=[node])
