"""Ax as the method of a search: its own default, and a strategy that a user gives."""

from pathlib import Path

import pytest
from tests.test_runner import linear_study, run_inline, timeless

from torchstudy.domains import Float
from torchstudy.errors import StudyError
from torchstudy.quiet import quiet_ax

pytestmark = pytest.mark.usefixtures("short_reports")

NARROW = {
    "scale": Float(0.5, 2.0, default=1.0),
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "schedule": "cosine",
}


def even_strategy() -> object:
    """A strategy of one node, Ax's Sobol sequence."""
    with quiet_ax():
        from ax.adapter.registry import Generators
        from ax.generation_strategy.generation_node import GenerationNode
        from ax.generation_strategy.generation_strategy import GenerationStrategy
        from ax.generation_strategy.generator_spec import GeneratorSpec

        spec = GeneratorSpec(generator_enum=Generators.SOBOL, generator_kwargs={"seed": 3})
        node = GenerationNode(name="even", generator_specs=[spec])
        return GenerationStrategy(name="even", nodes=[node])


@pytest.mark.slow
def test_a_strategy_of_ax_chooses_what_a_model_would(tmp_path: Path) -> None:
    """Slow: Ax is asked, in this process."""
    study = linear_study(space=NARROW, trials=5, epochs=5, confirm=None, method=even_strategy())
    assert study.describe()["method"] == "strategy even"
    found = run_inline(study, tmp_path)
    assert (found.trials["status"] == "completed").all()
    assert (found.trials["epochs"] == 5).all()  # no rungs
    assert found.trials["origin"].tolist()[:2] == ["recipe", "sobol"]
    assert "model" in set(found.trials["origin"])
    assert found.trials["config.scale"].is_unique
    again = run_inline(study, tmp_path / "again")
    assert timeless(again.trials).equals(timeless(found.trials))


@pytest.mark.slow
def test_ax_is_a_method(tmp_path: Path) -> None:
    """Slow: Ax's model is asked."""
    study = linear_study(space=NARROW, trials=4, epochs=5, confirm=None, method="ax")
    found = run_inline(study, tmp_path)
    assert found.trials["origin"].tolist() == ["recipe", "sobol", "sobol", "model"]
    assert (found.trials["epochs"] == 5).all()


def test_what_is_no_method_is_refused() -> None:
    with pytest.raises(StudyError, match="method: 'axe' is not one of auto, ax, sobol, random"):
        linear_study(method="axe")
    with pytest.raises(StudyError, match="method: must be one of auto, ax, sobol, random or a Gen"):
        linear_study(method=3)
