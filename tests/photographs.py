"""Small colour photographs of three kinds in files, some mislabelled, and models of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tests.training_jobs import job_for, run_job

from torchstudy.data.dataset import ImageData
from torchstudy.execution import job as jobs
from torchstudy.families.base import Family
from torchstudy.fitting import instantiate
from torchstudy.models.saved import save_model
from torchstudy.records import Objective, Status
from torchstudy.space import Config

KINDS = ("flat", "tall", "plain")
EACH = 40
STUDY = '''"""Photographs that are not all of the kind that their folder says."""
from torchstudy import *

study = Study(
    data=Images("photos", size=12), families=[CNN], maximize="accuracy", trials=1, epochs=3,
    confirm=(1, 2), space={"CNN.width": 8, "CNN.depth": 1, "batch_size": 16},
)
'''


def write_photographs(folder: Path) -> None:
    """Write `folder/<kind>/<number>.png` or .jpg, 20 x 14 pixels; one in five is of any kind."""
    generator = np.random.default_rng(0)
    for label, kind in enumerate(KINDS):
        (folder / kind).mkdir(parents=True)
        for number in range(EACH):
            shown = label if generator.random() > 0.2 else generator.integers(3)
            pixels = generator.integers(0, 150, (14, 20, 3))
            if shown == 0:
                pixels[::4] += 60
                pixels[1::4] += 60
            elif shown == 1:
                pixels[:, ::4] += 60
                pixels[:, 1::4] += 60
            suffix = "jpg" if number % 3 == 0 else "png"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{number}.{suffix}")


def write_prices(folder: Path) -> None:
    """Write `folder/rows.csv`, a price by size, shop and two photographs, and the photographs."""
    write_photographs(folder)
    generator = np.random.default_rng(1)
    rows = 3 * EACH
    size = generator.uniform(1, 5, rows)
    names = [str(path.relative_to(folder)) for path in sorted(folder.glob("*/*.*"))]
    table = pd.DataFrame(
        {
            "size": size,
            "shop": np.where(generator.random(rows) < 0.5, "north", "south"),
            "front": names,
            "back": names[::-1],
            "price": np.exp(size + 0.1 * generator.normal(size=rows)),
        }
    )
    table.to_csv(folder / "rows.csv", index=False)


def saved(
    cls: type[Family], data: ImageData, folder: Path, config: Config | None = None
) -> tuple[Path, Path]:
    """The folder of a family's model, trained for two epochs, and that of its training."""
    job = job_for(cls, data, folder / "run", config)
    if data.spec.task == "regression":
        job = replace(job, objective=Objective(metric="r2", direction="maximize"))
    outcome, _ = run_job(job)
    assert outcome.status is Status.COMPLETED, outcome.reason
    state, spec = jobs.deployed_state(job.folder, instantiate(cls, job.config).family, data.spec)
    place = folder / "model"
    save_model(place, family=cls, config=job.config, data=spec, state=state, metrics={})
    return place, job.folder
