"""How the shipped backbone was made: `python -m torchstudy.models.fashion_backbone FOLDER`.

Trains `SmallBackbone` with a linear layer on all but the validation images of Fashion-MNIST and
writes `fashion-small.pt` (state_dict) and `fashion-small.json` (its card) to FOLDER.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from torchstudy.data.dataset import prepare
from torchstudy.data.images import Images
from torchstudy.families.backbones import SHIPPED, SmallBackbone
from torchstudy.families.phases import Phase
from torchstudy.files import sha256_of, write_json, written_aside
from torchstudy.records import Epoch, Objective
from torchstudy.training.batches import Batch, Preprocessing, Split
from torchstudy.training.lesson import Lesson
from torchstudy.training.losses import prediction_loss
from torchstudy.training.metrics import classification_metrics
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.trainer import train

EPOCHS, SEED = 9, 0


class Classifier(nn.Module):
    """The backbone with a linear layer on its 512 features."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SmallBackbone()
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(512, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, 10)."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


def main() -> None:
    """Train and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    data = prepare(Images("fashion-mnist", valid=2000, select=10), seed=SEED)
    preprocessing = Preprocessing(mean=data.spec.mean, std=data.spec.std)

    def split(name: str) -> Split:
        rows = data.splits[name]
        return Split.of(data.pixels, rows, data.targets[rows], preprocessing)

    def say(row: Epoch) -> None:
        print(f"epoch {row.epoch}: valid accuracy {row.metrics['accuracy']:.4f}", flush=True)

    measure = prediction_loss(data.spec, TrainingConfig())

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return measure(model(batch.inputs), batch)

    def score(model: nn.Module, part: Split) -> dict[str, float]:
        return classification_metrics(lambda batch: model(batch.inputs), part.in_order())

    lesson = Lesson(
        build=Classifier,
        phases=(Phase(name="train", loss=loss),),
        config=TrainingConfig(),
        train=split("train"),
        valid=split("valid"),
        score=score,
        objective=Objective(metric="accuracy", direction="maximize"),
        epochs=EPOCHS,
        seed=SEED,
    )
    _, model = train(lesson, on_epoch=say)
    assert isinstance(model, Classifier)
    with torch.inference_mode():
        test = score(model, split("test"))
    weights = folder / f"{SHIPPED}.pt"
    with written_aside(weights) as aside:
        torch.save(model.backbone.state_dict(), aside)
    card = {
        "network": "SmallBackbone",
        "made_by": "python -m torchstudy.models.fashion_backbone",
        "data": "fashion-mnist",
        "epochs": EPOCHS,
        "train_images": len(data.splits["train"]),
        "test_accuracy_with_linear_head": round(test["accuracy"], 4),
        "sha256": sha256_of(weights),
        "mean": list(data.spec.mean),
        "std": list(data.spec.std),
        "sketch": list(data.spec.sketch),
    }
    write_json(folder / f"{SHIPPED}.json", card)
    print(json.dumps({key: card[key] for key in ("test_accuracy_with_linear_head", "sha256")}))


if __name__ == "__main__":
    main()
