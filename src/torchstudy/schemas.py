"""The written schema of every table that a run leaves: its columns and their types."""

from torchstudy.records import COSTS, LATENCIES, SECONDS

TRIAL_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "trial": "Int64",
    "status": "string",
    "reason": "string",
    "diagnosis": "string",
    "origin": "string",
    "seed": "Int64",
    "epochs": "Int64",
    "best_epoch": "Int64",
    "parameters": "Int64",
    **{cost: "float64" for cost in COSTS if cost != "parameters"},
    "seconds": "float64",
    "started": "datetime64[us, UTC]",
    "finished": "datetime64[us, UTC]",
    "worker": "string",
    "environment": "string",
    "precision": "string",
    **dict.fromkeys(SECONDS, "float64"),
}
"""`trials`: then `config.<name>` per hyperparameter, `valid_<metric>` at the last epoch and
`best_valid_<objective>`, the best epoch's value. `seconds_<part>` are sums over the epochs and
`environment` the ids of what a trial was trained with, joined with "+" (see study.json)."""

EPOCH_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "trial": "Int64",
    "seed": "Int64",
    "epoch": "Int64",
    "seconds": "float64",
    "finished": "datetime64[us, UTC]",
    "train_loss": "float64",
    "valid_loss": "float64",
    "learning_rate": "float64",
    "grad_norm": "float64",
    **dict.fromkeys(SECONDS, "float64"),
}
"""`epochs`: then `valid_<metric>` per metric, on the valid split after that epoch, and what was
measured in training: `train_loss_<phase>` where phases alternate, `health_<measure>`.
`seconds_<part>` add up to the time since the row before; the checkpoint is the one before."""

CONFIRMATION_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "trial": "Int64",
    "seed": "Int64",
    "status": "string",
    "reason": "string",
    "chosen": "boolean",
    "epochs": "Int64",
    "parameters": "Int64",
    "seconds": "float64",
    "started": "datetime64[us, UTC]",
    "finished": "datetime64[us, UTC]",
    "worker": "string",
    "environment": "string",
    "tested": "datetime64[us, UTC]",
    "tested_by": "string",
    "readings": "Int64",
}
"""`confirmation`: one row per fresh training, then `select_<metric>` and `test_<metric>` (NaN
unless the configuration was chosen: test is read for those alone). `readings` counts how often the
test split was read for it, the last time at `tested` by the process `tested_by`."""

PROPOSAL_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "decision": "Int64",
    "trial": "Int64",
    "origin": "string",
    "after": "Int64",
    "until": "Int64",
    "pending": "string",
    "expected": "float64",
    "spread": "float64",
    "expected_seconds": "float64",
    "decided": "datetime64[us, UTC]",
    "seen": "float64",
    "at_the_end": "float64",
}
"""`proposals`: one row per decision of the search, to train a trial from epoch `after` (0: a new
one) until epoch `until`. `pending` lists the decisions whose results were not known, `expected` and
`spread` what was expected of the objective after the last epoch (median, and half the width of the
middle 68%), of several objectives of the first.
`seen` is the objective of the best epoch up to `until`, `at_the_end` that of a completed trial."""

REPEAT_COLUMNS: dict[str, str] = {
    "study": "string",
    "repeat": "Int64",
    "family": "string",
    "seed": "Int64",
    "trials": "Int64",
    "trial": "Int64",
    "seeds": "Int64",
    "seconds": "float64",
}
"""`repeats`: one row per search and family; `seed` is where the search's random numbers come from,
`trial` the one that was chosen, `seconds` what all trainings took. Then `valid_<objective>` of that
trial in the search, `select_<objective>` and `test_<objective>`, the means over `seeds` fresh
trainings, and `select_deviation` and `test_deviation`, the standard deviations between those."""

ATTEMPT_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "trial": "Int64",
    "seed": "Int64",
    "purpose": "string",
    "attempt": "Int64",
    "status": "string",
    "reason": "string",
    "epochs": "Int64",
    "seconds": "float64",
    "started": "datetime64[us, UTC]",
    "finished": "datetime64[us, UTC]",
    "worker": "string",
    "environment": "string",
}
"""`attempts`: what had become of trainings that crashed and were trained again: one row each time,
`attempt` counting from 1 how often a worker took it up. Trials and confirmations have the last."""

PREDICTION_COLUMNS: dict[str, str] = {
    "split": "string",
    "seed": "Int64",
    "item": "Int64",
    "name": "string",
    "target": "string",
    "predicted": "string",
    "confidence": "float64",
    "is_correct": "boolean",
    "calibrated": "float64",
    "crossfitted": "float64",
}
"""`evidence/<family>/predictions`: one row per item of a split, for each seed; of numbers
`target_value` and `predicted_value` instead. `calibrated` is the confidence at the temperature
that was fitted on the select split, if there is one. Where nothing was confirmed, `crossfitted`
is that of an item of select at a temperature that was fitted without it."""

CODE_COLUMNS: dict[str, str] = {
    "split": "string",
    "seed": "Int64",
    "item": "Int64",
    "name": "string",
}
"""`evidence/<family>/codes`: one row per item of a split, for each seed; then `target` (a class or
a number) and `code_1`, `code_2` ..."""

EXAMPLE_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "trial": "Int64",
    "seed": "Int64",
    "epoch": "Int64",
    "item": "Int64",
    "name": "string",
    "target": "string",
    "predicted": "string",
    "confidence": "float64",
    "is_correct": "boolean",
    "target_value": "float64",
    "predicted_value": "float64",
    "sees_images": "boolean",
}
"""`evidence/examples`: what each trial of the search answered to the same few validation items, a
class or a value, with its weights after `epoch`; `sees_images` where the network looked at their
pictures. These, and the rows of a table, are in `examples.npz` beside it; what a family makes of
them in `<family>/examples.npz`: arrays "trial/epoch/caption"."""

FRONT_COLUMNS: dict[str, str] = {"study": "string", "family": "string", "trial": "Int64"}
"""`front`: the completed trials that no other beats in all objectives, the first objective's best
first; then one column per objective, `valid_<metric>` or a cost, and `config.<name>`."""

READING_COLUMNS = ("tested", "tested_by", "readings")
LATER_COLUMNS = (
    "environment",
    "precision",
    "calibrated",
    "crossfitted",
    "sees_images",
    *SECONDS,
    *READING_COLUMNS,
)
"""Columns that results of earlier versions may lack; they are read as empty."""

CLOCK_COLUMNS = (
    *("seconds", "started", "finished", "worker", *LATENCIES, *SECONDS),
    *("expected_seconds", "decided", "tested", "tested_by"),
)
"""Columns that differ between equal runs; all others are bit for bit the same with one worker."""
