from torchstudy.execution.confirm import candidates, chosen_number, confirmation_seeds
from torchstudy.records import Objective, Purpose, Status, Training, Trial

ACCURACY = Objective(metric="accuracy", direction="maximize")
LOSS = Objective(metric="loss", direction="minimize")


def training(
    number: int,
    metrics: dict[str, float],
    *,
    status: Status = Status.COMPLETED,
    seed: int = 0,
    parameters: int = 10,
    purpose: Purpose = "search",
) -> Training:
    return Training(
        trial=Trial(
            family="CNN",
            number=number,
            config={},
            origin="sobol" if number else "recipe",
        ),
        seed=seed,
        purpose=purpose,
        status=status,
        attempt=1,
        reason="",
        epochs=1,
        best_epoch=1,
        parameters=parameters,
        seconds=1.0,
        started="",
        finished="",
        worker="",
        metrics=metrics,
    )


def test_the_best_configurations_and_always_the_recipe_are_confirmed() -> None:
    values = {0: 0.5, 1: 0.9, 2: 0.7, 3: 0.95}
    trainings = [training(n, {"valid_accuracy": value}) for n, value in values.items()]
    trainings.append(training(4, {"valid_accuracy": 0.99}, status=Status.DIVERGED))
    assert [trial.number for trial in candidates(trainings, [ACCURACY], 2)] == [3, 1, 0]
    assert [trial.number for trial in candidates(trainings, [ACCURACY], 9)] == [3, 1, 2, 0]


def test_losses_rank_the_other_way() -> None:
    trainings = [training(n, {"valid_loss": value}) for n, value in enumerate([0.1, 0.3, 0.2])]
    assert [trial.number for trial in candidates(trainings, [LOSS], 2)] == [0, 2]


def test_equal_values_go_to_the_earlier_trial() -> None:
    trainings = [training(n, {"valid_accuracy": 0.5}) for n in (3, 1, 2)]
    assert [trial.number for trial in candidates(trainings, [ACCURACY], 2)] == [1, 2]


def test_between_equal_accuracies_the_lower_loss_goes_first() -> None:
    trainings = [
        training(n, {"valid_accuracy": 0.5, "valid_loss": loss}) for n, loss in ((1, 0.9), (2, 0.3))
    ]
    assert [trial.number for trial in candidates(trainings, [ACCURACY], 1)] == [2]


def group(
    number: int, scores: list[float], parameters: int, *, fails: bool = False
) -> list[Training]:
    status = Status.DIVERGED if fails else Status.COMPLETED
    return [
        training(
            number,
            {"select_accuracy": score},
            seed=seed,
            parameters=parameters,
            status=status if seed == 0 else Status.COMPLETED,
        )
        for seed, score in enumerate(scores)
    ]


def test_the_smallest_within_one_standard_error_of_the_best_is_chosen() -> None:
    best = group(1, [0.90, 0.94, 0.98], 1000)  # mean 0.94, standard error 0.0231
    close = group(2, [0.92, 0.92, 0.92], 100)
    far = group(3, [0.91, 0.91, 0.91], 10)
    assert chosen_number([*best, *close, *far], ACCURACY) == 2
    assert chosen_number([*best, *far], ACCURACY) == 1


def test_between_equal_sizes_the_better_mean_wins() -> None:
    assert chosen_number([*group(1, [0.9, 0.98], 5), *group(2, [0.93, 0.93], 5)], ACCURACY) == 1


def test_a_configuration_with_a_failed_training_is_out() -> None:
    failed = group(1, [0.99, 0.99], 5, fails=True)
    assert chosen_number([*failed, *group(2, [0.5, 0.5], 5)], ACCURACY) == 2
    assert chosen_number(failed, ACCURACY) is None
    assert chosen_number([], ACCURACY) is None


def test_confirmation_seeds_are_fresh_and_the_same_for_every_family() -> None:
    seeds = confirmation_seeds(0, 5)
    assert len(set(seeds)) == 5
    assert seeds[:3] == confirmation_seeds(0, 3)
    assert seeds != confirmation_seeds(1, 5)
