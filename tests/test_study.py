import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchstudy.checking import changes_for
from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float, Int
from torchstudy.errors import SpaceError, StudyError
from torchstudy.families.autoencoder import AutoencoderProbe
from torchstudy.families.base import Family, domains_with_training, family
from torchstudy.families.cnn import CNN
from torchstudy.families.transfer import Transfer
from torchstudy.fitting import instantiate
from torchstudy.records import Objective
from torchstudy.study import Study
from torchstudy.training.augmentation import Augmentation
from torchstudy.training.optim import TrainingConfig


@family
class Gated(Family):
    """Three levels of conditions, and a fixed number that a study may open."""

    norm: str = Choice("none", "batch", default="batch")
    gate: bool = Choice(True, False, default=False, when={"norm": "batch"})
    temperature: float = Float(0.1, 10.0, log=True, when={"gate": True})
    layers: int = 0

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Linear(data.channels, data.num_classes)


class Undecorated(Family):
    def build(self, data: DataSpec) -> nn.Module:
        return nn.Identity()


@family
class Unfinished(Family):
    """A family that does not say how to build its network."""


def study(**changes: Any) -> Study:
    return Study(**{"data": "digits", "families": [CNN], "maximize": "accuracy", **changes})


def problems(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(StudyError) as caught:
        study(**changes)
    return caught.value.problems


# What a study says


def test_a_study_has_an_objective_with_a_direction() -> None:
    assert study().objective == Objective(metric="accuracy", direction="maximize")
    lower = study(maximize=None, minimize="loss")
    assert lower.objective == Objective(metric="loss", direction="minimize")


def test_data_is_a_shorthand_for_images() -> None:
    assert study().images == Images("digits")
    images = Images("digits", size=16)
    assert study(data=images).images is images


def test_a_family_is_found_by_its_class_name() -> None:
    assert study(families=[CNN, Transfer]).family("Transfer") is Transfer


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "CNM",
            "study 'study' has no family 'CNM' (did you mean 'CNN'?); it has CNN, Transfer",
        ),
        (
            "cnn",
            "study 'study' has no family 'cnn' (did you mean 'CNN'?); it has CNN, Transfer",
        ),
        ("GAN", "study 'study' has no family 'GAN'; it has CNN, Transfer"),
    ],
)
def test_an_unknown_family_is_refused_with_those_there_are(name: str, message: str) -> None:
    with pytest.raises(StudyError, match=f"^{re.escape(message)}$"):
        study(families=[CNN, Transfer]).family(name)


def test_a_space_holds_what_the_family_and_the_training_declare() -> None:
    assert list(study().space_of(CNN).domains) == list(domains_with_training(CNN))


def test_a_plain_name_narrows_every_family_that_has_it() -> None:
    narrowed = study(families=[CNN, AutoencoderProbe, Transfer], space={"width": 16})
    assert narrowed.space_of(CNN).recipe["width"] == 16
    assert narrowed.space_of(AutoencoderProbe).recipe["width"] == 16
    assert "width" not in narrowed.space_of(Transfer).domains


@pytest.mark.parametrize("order", [("width", "CNN.width"), ("CNN.width", "width")])
def test_a_name_for_one_family_goes_before_one_for_all(order: tuple[str, str]) -> None:
    values = {"width": 16, "CNN.width": 8}
    narrowed = study(families=[CNN, AutoencoderProbe], space={name: values[name] for name in order})
    assert narrowed.space_of(CNN).recipe["width"] == 8
    assert narrowed.space_of(AutoencoderProbe).recipe["width"] == 16


def test_training_may_be_narrowed_for_one_family() -> None:
    narrowed = study(families=[CNN, Transfer], space={"CNN.learning_rate": 0.01})
    assert narrowed.space_of(CNN).recipe["learning_rate"] == 0.01
    assert "learning_rate" in narrowed.space_of(Transfer).dimensions


def test_a_clipped_recipe_is_said() -> None:
    narrowed = study(space={"CNN.width": Int(8, 16), "batch_size": 64})
    assert narrowed.notes_on(CNN) == ("width: recipe 32 is outside, 16 is used",)


def test_a_range_may_go_beyond_what_the_family_declares() -> None:
    assert study(space={"CNN.depth": Int(2, 5)}).space_of(CNN).domains["depth"].extremes == (2, 5)


def test_a_number_that_a_family_fixes_may_be_opened() -> None:
    assert "layers" not in study(families=[Gated]).space_of(Gated).dimensions
    opened = study(families=[Gated], space={"layers": Int(0, 3)})
    assert "layers" in opened.space_of(Gated).dimensions


def test_training_hyperparameters_exist_only_where_the_family_trains() -> None:
    space = study(families=[Transfer]).space_of(Transfer)
    logistic = space.completed({"head": "logistic"})
    assert "regularisation" in logistic
    assert not {"learning_rate", "optimizer", "momentum", "batch_size"} & logistic.keys()
    assert "learning_rate" in space.completed({"head": "network"})


@given(st.sampled_from([CNN, Transfer, AutoencoderProbe, Gated]), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_every_sample_makes_a_family_and_a_training_config(cls: type[Family], seed: int) -> None:
    space = study(families=[cls]).space_of(cls)
    config = space.sample(np.random.default_rng(seed))
    assert space.validate(config) == config
    configured = instantiate(cls, config)
    for name, value in config.items():
        (holder,) = (part for part in configured if hasattr(part, name))
        assert getattr(holder, name) == value


def test_the_recipe_of_a_space_is_the_family_as_it_is() -> None:
    for cls in (CNN, Transfer, AutoencoderProbe, Gated):
        recipe = study(families=[cls]).space_of(cls).recipe
        assert instantiate(cls, recipe) == (cls(), TrainingConfig(), Augmentation())


def test_changes_for_a_family_carry_plain_names() -> None:
    space = {"learning_rate": 0.1, "CNN.width": 8, "Transfer.head": "network", "code": 4}
    assert changes_for(CNN, space) == {"learning_rate": 0.1, "width": 8}
    assert changes_for(AutoencoderProbe, space) == {"learning_rate": 0.1, "code": 4}


# Every wrong use


FAMILY_LIST = "families: give a list of one or more, such as [CNN, Transfer]; got "


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        ([], [FAMILY_LIST + "[]"]),
        ("CNN", [FAMILY_LIST + "'CNN'"]),
        (None, [FAMILY_LIST + "None"]),
        (CNN, [FAMILY_LIST + "<class 'torchstudy.families.cnn.CNN'>"]),
        ([CNN, Transfer, CNN], ["families: CNN is listed twice"]),
        ([Undecorated], ["families: Undecorated is not a Family class decorated with @family"]),
        (["CNN"], ["families: 'CNN' is not a Family class decorated with @family"]),
        ([CNN, 3], ["families: 3 is not a Family class decorated with @family"]),
        ([Family], ["families: Family is not a Family class decorated with @family"]),
        ([Unfinished], ["families: Unfinished does not define build"]),
    ],
)
def test_families_are_a_list_of_different_decorated_classes(
    families: object, expected: list[str]
) -> None:
    assert list(problems(families=families)) == expected


def test_an_instance_is_no_family() -> None:
    (problem,) = problems(families=[CNN()])
    assert problem.startswith("families: CNN(depth=2, ")
    assert problem.endswith("is not a Family class decorated with @family")


NO_OBJECTIVE = 'objective: give maximize= or minimize=, such as maximize="accuracy"'


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"maximize": None}, NO_OBJECTIVE),
        (
            {"maximize": "acuracy"},
            "objective: CNN does not report 'acuracy' (did you mean 'accuracy'?); "
            "it reports accuracy, loss, mse, mae, r2",
        ),
        (
            {"maximize": "sharpness"},
            "objective: CNN does not report 'sharpness'; it reports accuracy, loss, mse, mae, r2",
        ),
        (
            {
                "families": [CNN, AutoencoderProbe],
                "maximize": None,
                "minimize": "reconstruction_error",
            },
            "objective: CNN does not report 'reconstruction_error'; it reports accuracy, loss, "
            "mse, mae, r2",
        ),
    ],
)
def test_the_objective_is_a_metric_that_every_family_reports(
    changes: dict[str, object], expected: str
) -> None:
    assert problems(**changes) == (expected,)


PAIR = "confirm: must be (configurations, seeds), both at least 1, or None; got "
NAME = "cannot name a folder; use letters, digits, '-', '_' and '.'"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("trials", 0, "trials: must be a whole number of at least 1; got 0"),
        ("trials", -3, "trials: must be a whole number of at least 1; got -3"),
        ("trials", 2.0, "trials: must be a whole number of at least 1; got 2.0"),
        ("trials", True, "trials: must be a whole number of at least 1; got True"),
        ("trials", None, "trials: must be a whole number of at least 1; got None"),
        ("epochs", 0, "epochs: must be a whole number of at least 1; got 0"),
        ("epochs", "27", "epochs: must be a whole number of at least 1; got '27'"),
        ("seed", -1, "seed: must be a whole number of at least 0; got -1"),
        ("seed", None, "seed: must be a whole number of at least 0; got None"),
        ("minutes", 0, "minutes: must be a number above 0 or None; got 0"),
        ("minutes", float("nan"), "minutes: must be a number above 0 or None; got nan"),
        ("minutes", "5", "minutes: must be a number above 0 or None; got '5'"),
        ("confirm", 3, PAIR + "3"),
        ("confirm", (0, 3), PAIR + "(0, 3)"),
        ("confirm", (3, 0), PAIR + "(3, 0)"),
        ("confirm", (3,), PAIR + "(3,)"),
        ("confirm", (3, 2.5), PAIR + "(3, 2.5)"),
        ("confirm", "33", PAIR + "'33'"),
        ("name", "", f"name: '' {NAME}"),
        ("name", "a/b", f"name: 'a/b' {NAME}"),
        ("name", "..", f"name: '..' {NAME}"),
        ("name", ".hidden", f"name: '.hidden' {NAME}"),
        ("name", "my study", f"name: 'my study' {NAME}"),
        ("name", "a\\b", f"name: 'a\\\\b' {NAME}"),
        ("name", 3, f"name: 3 {NAME}"),
        (
            "data",
            17,
            "data: images are a name, a folder, an archive or a function that returns "
            "(images, labels), not 17",
        ),
        (
            "data",
            Images("digits", size=2),
            "data: size is a whole number of pixels from 4, not 2",
        ),
        (
            "space",
            ["learning_rate"],
            "space: must be a mapping of names to ranges or values; got ['learning_rate']",
        ),
    ],
)
def test_a_setting_that_cannot_work_says_what_would(
    name: str, value: object, expected: str
) -> None:
    assert problems(**{name: value}) == (expected,)


@pytest.mark.parametrize(
    "settings",
    [
        {"confirm": None},
        {"confirm": [1, 1]},
        {"minutes": 0.5},
        {"name": "digits-v2.1_final"},
        {"families": (CNN,)},
        {"seed": 2**40},
        {"data": Path("somewhere")},
    ],
)
def test_settings_that_can_work_are_accepted(settings: dict[str, object]) -> None:
    study(**settings)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        (
            "learning_rat",
            0.1,
            "space.learning_rat is not a hyperparameter of CNN (did you mean 'learning_rate'?)",
        ),
        ("xyzzy", 1, "space.xyzzy is not a hyperparameter of CNN"),
        (
            "CNN.widht",
            8,
            "space.CNN.widht: 'widht' is not a hyperparameter of CNN (did you mean 'width'?)",
        ),
        (
            "CNM.width",
            8,
            "space.CNM.width: the study has no family 'CNM' (did you mean 'CNN'?)",
        ),
        ("Transfer.head", "network", "space.Transfer.head: the study has no family 'Transfer'"),
        (
            "learning_rate",
            Float(0.1, 0.1),
            "space.learning_rate has an empty range: low and high are both 0.1; "
            "write the value itself",
        ),
        (
            "learning_rate",
            Float(0.1, 0.01, log=True),
            "space.learning_rate has an inverted range: low 0.1 is above high 0.01",
        ),
        (
            "learning_rate",
            Float(0.0, 0.1, log=True),
            "space.learning_rate has a log scale from 0.0: a log range must start above 0",
        ),
        (
            "width",
            Int(8, 16, default=32),
            "space.CNN.width has a default outside its range: 32 is not in [8, 16]",
        ),
        (
            "learning_rate",
            "fast",
            "space.learning_rate takes float values, but 'fast' was given",
        ),
        ("batch_size", 128.0, "space.batch_size takes int values, but 128.0 was given"),
        ("CNN.width", "wide", "space.CNN.width takes int values, but 'wide' was given"),
        (
            "optimizer",
            "adma",
            "space.optimizer cannot be 'adma': 'adma' is not one of 'adamw', 'adam', 'sgd' "
            "(did you mean 'adam'?)",
        ),
        (
            "learning_rate",
            [0.1, 0.2],
            "space.learning_rate cannot be [0.1, 0.2]; give a value, Float, Int or Choice",
        ),
        (
            "momentum",
            Float(0.5, 0.9, when={"optimiser": "sgd"}),
            "space.momentum depends on 'optimiser', which is not a hyperparameter here "
            "(did you mean 'optimizer'?)",
        ),
        (
            "optimizer",
            Choice("adam", "sgd", when={"optimizer": "sgd"}),
            "space.optimizer depends on itself",
        ),
        (
            "optimizer",
            Choice("adam", "sgd", when={"width": 8}),
            "space.optimizer depends on width, which is a range; a condition needs a Choice",
        ),
        ("learning_rate", -1, "space.learning_rate must be above 0"),
        ("batch_size", 1, "space.batch_size must be at least 2"),
        ("patience", 0, "space.patience must be at least 1"),
        ("label_smoothing", 1, "space.label_smoothing must be in [0, 1)"),
        ("patience", Int(0, 5), "space.patience must be at least 1"),
        (
            3,
            1,
            "space: names are text, such as 'learning_rate' or 'CNN.width'; got 3",
        ),
    ],
)
def test_an_entry_of_the_space_that_cannot_work_says_why(
    name: object, change: object, expected: str
) -> None:
    assert problems(space={name: change}) == (expected,)


def test_a_cycle_between_two_entries_is_named() -> None:
    changes = {
        "optimizer": Choice("adam", "sgd", when={"schedule": "cosine"}),
        "schedule": Choice("cosine", "constant", when={"optimizer": "sgd"}),
    }
    assert problems(space=changes) == (
        "space.optimizer depends on itself through schedule",
        "space.schedule depends on itself through optimizer",
    )


def test_an_entry_that_fits_one_family_only_names_the_other() -> None:
    found = problems(families=[CNN, AutoencoderProbe], space={"width": "wide"})
    assert found == (
        "space.CNN.width takes int values, but 'wide' was given",
        "space.AutoencoderProbe.width takes int values, but 'wide' was given",
    )


def test_a_problem_of_all_families_is_said_once() -> None:
    found = problems(families=[CNN, AutoencoderProbe, Transfer], space={"learning_rate": -1})
    assert found == ("space.learning_rate must be above 0",)


def test_everything_wrong_is_said_in_one_message() -> None:
    with pytest.raises(StudyError) as caught:
        Study(
            data=3,
            families=[CNN, CNN, Undecorated],
            maximize="acuracy",
            trials=0,
            epochs=0,
            confirm=(0, 1),
            name="a/b",
            space={
                "learning_rat": 0.1,
                "CNM.width": 2,
                "optimizer": "adma",
                "learning_rate": -1,
                "patience": 0,
                "gradient_clipping": Float(-1.0, 1.0, default=0.0),
            },
        )
    assert str(caught.value) == "\n".join(
        [
            "14 problems:",
            "  - data: images are a name, a folder, an archive or a function that returns "
            "(images, labels), not 3",
            "  - families: Undecorated is not a Family class decorated with @family",
            "  - families: CNN is listed twice",
            "  - objective: CNN does not report 'acuracy' (did you mean 'accuracy'?); "
            "it reports accuracy, loss, mse, mae, r2",
            "  - trials: must be a whole number of at least 1; got 0",
            "  - epochs: must be a whole number of at least 1; got 0",
            "  - confirm: must be (configurations, seeds), both at least 1, or None; got (0, 1)",
            f"  - name: 'a/b' {NAME}",
            "  - space.learning_rat is not a hyperparameter of CNN (did you mean 'learning_rate'?)",
            "  - space.CNM.width: the study has no family 'CNM' (did you mean 'CNN'?)",
            "  - space.optimizer cannot be 'adma': 'adma' is not one of 'adamw', 'adam', 'sgd' "
            "(did you mean 'adam'?)",
            "  - space.learning_rate must be above 0",
            "  - space.patience must be at least 1",
            "  - space.gradient_clipping must be 0 (off) or more",
        ]
    )


# Families that cannot be


def declare(**fields: object) -> type[Family]:
    body: dict[str, object] = {
        "__module__": __name__,
        "__annotations__": dict.fromkeys(fields, float),
        "build": lambda self, data: nn.Identity(),
        **fields,
    }
    return family(type("Own", (Family,), body))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"learning_rate": Float(0.1, 1.0), "momentum": 0.9, "width": 3},
            "Own.learning_rate, Own.momentum: that name belongs to the training hyperparameters; "
            "rename it",
        ),
        ({"width": Int(8, 3)}, "Own.width has an inverted range: low 8 is above high 3"),
        (
            {"rate": Float(0.0, 1.0, when={"nrom": "batch"}), "norm": Choice("none", "batch")},
            "Own.rate depends on 'nrom', which is not a hyperparameter here (did you mean 'norm'?)",
        ),
        ({"rate": Float(0.0, 1.0, when={"rate": 0.5})}, "Own.rate depends on itself"),
        (
            {"rate": Float(0.0, 1.0, when={"width": 8}), "width": Int(8, 16)},
            "Own.rate depends on width, which is a range; a condition needs a Choice",
        ),
        (
            {"rate": Float(0.0, 1.0, when={"norm": "layer"}), "norm": Choice("none", "batch")},
            "Own.rate exists only when norm='layer', but 'layer' is not one of 'none', 'batch'",
        ),
    ],
)
def test_a_family_that_cannot_be_is_refused_where_it_is_declared(
    fields: dict[str, object], expected: str
) -> None:
    with pytest.raises(StudyError, match=f"^{re.escape(expected)}$"):
        declare(**fields)


def test_a_condition_on_a_training_hyperparameter_is_fine() -> None:
    own = declare(warmth=Float(0.0, 1.0, when={"optimizer": "sgd"}))
    assert study(families=[own], space={"optimizer": "adam"}).space_of(own).domains.keys() == (
        (TrainingConfig.__dataclass_fields__ | Augmentation.__dataclass_fields__).keys()
        - {"momentum"}
    )


def test_only_families_are_decorated() -> None:
    with pytest.raises(StudyError, match=r"must be a subclass of Family to be decorated with"):
        family(dict)  # type: ignore[type-var]
    with pytest.raises(StudyError, match=r"must be a subclass of Family to be decorated with"):
        family(CNN())  # type: ignore[arg-type]


def test_a_family_that_refuses_its_values_is_heard() -> None:
    @family
    class Picky(Family):
        """Refuses odd widths."""

        width: int = Int(2, 8, default=4)

        def __post_init__(self) -> None:
            if self.width % 2:
                raise SpaceError("width must be even")

        def build(self, data: DataSpec) -> nn.Module:
            return nn.Identity()

    study(families=[Picky])
    assert problems(families=[Picky], space={"width": 3}) == ("space.Picky.width must be even",)


# Data


DATA = DataSpec(source="digits", channels=1, height=8, width=8, classes=("0", "1"), num_train=100)


def test_bounds_that_cannot_work_on_the_data_are_said_before_training() -> None:
    study(families=[CNN, AutoencoderProbe]).check(DATA)
    with pytest.raises(StudyError, match=r"^CNN: depth=4 halves the image 4 times"):
        study(space={"CNN.depth": Int(1, 4)}).check(DATA)


# What makes results comparable


def test_a_study_is_described_in_json_and_equal_studies_equally() -> None:
    described = study().describe()
    assert json.loads(json.dumps(described)) == described
    assert described == study().describe()
    assert described["objective"] == {"maximize": "accuracy"}


@pytest.mark.parametrize(
    "changes", [{"trials": 3}, {"minutes": 5.0}, {"confirm": None}, {"name": "other"}]
)
def test_budgets_and_names_do_not_change_the_description(changes: dict[str, Any]) -> None:
    assert replace(study(), **changes).describe() == study().describe()


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 9},
        {"seed": 1},
        {"data": "fashion-mnist"},
        {"maximize": "loss"},
        {"families": [CNN, Transfer]},
        {"space": {"learning_rate": 0.1}},
        {"space": {"CNN.width": Int(8, 16)}},
    ],
)
def test_what_changes_results_changes_the_description(changes: dict[str, Any]) -> None:
    assert replace(study(), **changes).describe() != study().describe()


# Ax


@pytest.mark.slow  # the first test to import ax waits several seconds for it
@pytest.mark.parametrize("cls", [CNN, Transfer, AutoencoderProbe, Gated])
def test_each_family_of_a_study_is_an_ax_experiment(cls: type[Family]) -> None:
    from ax.core.experiment import Experiment

    asked = study(families=[cls], name="digits", space={"batch_size": 64})
    experiment = asked.ax_experiment(cls)
    space = asked.space_of(cls)
    assert isinstance(experiment, Experiment)
    assert experiment.name == f"digits/{cls.__name__}"
    assert list(experiment.search_space.parameters) == list(space.dimensions)
    assert len(experiment.trials) == 0
    assert not experiment.optimization_config.objective.minimize
    children = {
        child
        for parameter in experiment.search_space.parameters.values()
        if parameter.is_hierarchical
        for names in parameter.dependents.values()
        for child in names
    }
    assert children == {name for name in space.dimensions if space.domains[name].when}
    assert children >= {"momentum"}


@pytest.mark.slow  # the first test to import ax waits several seconds for it
def test_ax_parameter_configs_narrow_a_study() -> None:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    make: Callable[..., Any] = RangeParameterConfig
    narrowed = study(
        space={
            "learning_rate": make("learning_rate", (1e-3, 1e-2), "float", scaling="log"),
            "CNN.width": make("width", (8, 16), "int"),
            "optimizer": ChoiceParameterConfig("optimizer", ["adam", "sgd"], "str"),
        }
    )
    domains = narrowed.space_of(CNN).domains
    assert domains["learning_rate"] == Float(1e-3, 1e-2, log=True, default=3e-3)
    assert domains["width"] == Int(8, 16, default=16)
    assert domains["optimizer"] == Choice("adam", "sgd", default="adam")
    assert narrowed.notes_on(CNN) == (
        "optimizer: recipe 'adamw' is outside, 'adam' is used",
        "width: recipe 32 is outside, 16 is used",
    )


def test_precision_and_device_are_words_of_a_short_list() -> None:
    with pytest.raises(StudyError) as error:
        Study(data="digits", families=[CNN], maximize="accuracy", precision="bf32", device="gpu")
    assert error.value.problems == (
        "precision: 'bf32' is not one of auto, fp32 (did you mean 'fp32'?)",
        "device: 'gpu' is not one of auto, cpu, cuda, mps (did you mean 'cuda'?)",
    )


def test_another_precision_is_another_declaration_and_another_device_is_not() -> None:
    study = Study(data="digits", families=[CNN], maximize="accuracy")
    assert replace(study, precision="fp32").describe() != study.describe()
    assert replace(study, device="cpu").describe() == study.describe()
