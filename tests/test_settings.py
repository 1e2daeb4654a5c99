"""Which settings of a card are marked as other than the recipe's."""

import pytest

from torchstudy.report.settings import same_setting
from torchstudy.values import Value


@pytest.mark.parametrize(
    ("value", "recipe", "is_same"),
    [
        (0.002999999999999999, 0.003, True),  # 0.003 on a logarithmic scale and back
        (0.00301, 0.003, False),
        (0.0, 0.0, True),
        (1e-12, 0.0, False),
        (32, 32, True),
        (32, 33, False),
        ("adam", "adamw", False),
        (0.9, None, False),
    ],
)
def test_a_number_that_is_off_by_rounding_alone_is_that_of_the_recipe(
    value: Value, recipe: Value | None, is_same: bool
) -> None:
    assert same_setting(value, recipe) is is_same
