"""New rows at prediction: encoded as the training ones were, or refused with what would do."""

import numpy as np
import pandas as pd
import pytest
from tests.tables import from_frame, homes

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.encoding import encode_table
from torchstudy.errors import DataError

PASS = (
    "correct the entries, or let any value pass (unknown='other' in Python, --unknown other at the "
    "command line)"
)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return prepare(from_frame(homes()), seed=0)


def refused(table: pd.DataFrame, data: ImageData) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        encode_table(table, data.spec)
    return caught.value.problems


def test_new_rows_are_encoded_as_the_training_ones_were(data: ImageData) -> None:
    numbers, codes = encode_table(homes(), data.spec)
    assert (numbers == data.numbers).all()
    assert (codes == data.categories).all()
    assert numbers is not None
    assert codes is not None
    assert (numbers.dtype, codes.dtype) == (np.float32, np.int64)


def test_the_order_of_columns_and_further_ones_do_not_matter(data: ImageData) -> None:
    turned = homes()[["town", "price", "area"]].assign(other="x")
    numbers, codes = encode_table(turned, data.spec)
    assert (numbers == data.numbers).all()
    assert (codes == data.categories).all()


def test_unknown_categories_are_an_error_and_missing_ones_as_in_training(data: ImageData) -> None:
    rows = pd.DataFrame({"area": 50.0, "town": ["Ulm", "Kölnn", None, "Rom", "Rom", "Pisa"]})
    assert refused(rows, data) == (
        "column 'town' has what the model does not know: row 2 has 'Kölnn' (did you mean 'Köln'?), "
        f"row 4 has 'Rom', row 6 has 'Pisa'; it knows Bonn, Köln, Ulm; {PASS}",
    )
    _, codes = encode_table(rows.iloc[[0, 2]], data.spec)
    assert codes is not None
    assert codes[:, 0].tolist() == [3, 0]
    _, codes = encode_table(rows, data.spec, unknown="other")
    assert codes is not None
    assert codes[:, 0].tolist() == [3, 0, 0, 0, 0, 0]


def test_a_missing_number_counts_as_the_mean_of_training(data: ImageData) -> None:
    numbers, _ = encode_table(pd.DataFrame({"area": [None], "town": ["Ulm"]}), data.spec)
    assert numbers is not None
    assert numbers.tolist() == [[0.0]]


def test_all_that_is_wrong_with_new_rows_is_one_error(data: ImageData) -> None:
    assert refused(pd.DataFrame({"aera": [1.0], "town": ["Rom"]}), data) == (
        "the table lacks the column 'area' (did you mean 'aera'?); the model takes area, town",
        "column 'town' has what the model does not know: row 1 has 'Rom'; it knows Bonn, Köln, "
        f"Ulm; {PASS}",
    )
    (text,) = refused(pd.DataFrame({"area": [1, "large"], "town": "Ulm"}), data)
    assert text == (
        "column 'area' holds numbers, but row 2 has 'large'; give numbers, or leave the entries "
        "empty for the mean"
    )
    (dates,) = refused(pd.DataFrame({"area": pd.to_datetime(["2020-01-01"]), "town": "Ulm"}), data)
    assert "column 'area' holds entries of type Timestamp ('2020-01-01" in dates
    twice = pd.DataFrame([[1.0, 2.0, "Ulm"]], columns=["area", "area", "town"])
    assert refused(twice, data) == ("the table has the column 'area' twice",)


def test_codes_of_numbers_are_the_same_however_they_are_stored() -> None:
    table = homes().assign(zip=85000 + np.arange(60) % 4)
    data = prepare(from_frame(table, columns={"id": "ignore", "zip": "category"}), seed=0)
    for stored in (table.zip, table.zip.astype(float), table.zip.astype(str).astype(object)):
        _, codes = encode_table(table.assign(zip=stored), data.spec)
        assert codes is not None
        assert (codes == data.categories).all()
        assert codes[:4, 1].tolist() == [1, 2, 3, 4]


def test_a_column_that_is_constant_in_training_does_not_blow_up_elsewhere() -> None:
    table = homes().assign(floors=0.1)
    data = prepare(from_frame(table), seed=0)
    assert data.spec.number_stds[1] == 1
    numbers, _ = encode_table(table.assign(floors=2.1), data.spec)
    assert numbers is not None
    assert numbers[:, 1] == pytest.approx(2.0, abs=1e-6)
