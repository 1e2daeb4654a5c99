"""The plain way, as the reference: Optuna around the textbook training loop on Fashion-MNIST.

    python benchmarks/plain_study.py [--trials 20] [--epochs 9] [--sampler tpe|gp|random] [--seed 0]

What a careful user writes today: PIL images through a DataLoader, one process, torch's default
threads, early stopping, eval() for validation, weights of the best epoch, TPE and the median
pruner. Prints one line per trial; the last line is JSON: seconds in all, seconds to each of
`--targets` (or null), best valid accuracy, test accuracy of the best model. With `--until`
it ends with the trial that has reached that valid accuracy. Seconds count from the
start of the process. Needs optuna and the idx files (Debian: `dataset-fashion-mnist`).
"""

import argparse
import copy
import gzip
import json
import time
from pathlib import Path

BEGAN = time.perf_counter()

import numpy as np  # noqa: E402  # the clock runs while libraries are imported
import optuna  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset, Subset  # noqa: E402

Item = tuple[Tensor, int]


class IdxImages(Dataset[Item]):
    """The idx files of one split, one PIL image at a time."""

    def __init__(self, root: str, prefix: str) -> None:
        self.images = self._read(root, f"{prefix}-images-idx3-ubyte", 16).reshape(-1, 28, 28)
        self.labels = self._read(root, f"{prefix}-labels-idx1-ubyte", 8)

    @staticmethod
    def _read(root: str, name: str, skip: int) -> np.ndarray:
        with gzip.open(Path(root) / f"{name}.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=skip)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        image = Image.fromarray(self.images[index])
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0)[None]
        return pixels, int(self.labels[index])


def build(trial: optuna.Trial) -> nn.Module:
    """Convolution, BatchNorm, ReLU and pooling, one to three times."""
    layers: list[nn.Module] = []
    channels, size = 1, 28
    width = trial.suggest_int("width", 8, 64, log=True)
    for _ in range(trial.suggest_int("depth", 1, 3)):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        channels, width, size = width, width * 2, size // 2
    dropout = trial.suggest_float("dropout", 0.0, 0.5)
    head = nn.Linear(channels * size * size, 10)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), head)


def make_optimizer(trial: optuna.Trial, model: nn.Module) -> torch.optim.Optimizer:
    """Adam or SGD."""
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    decay = trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
    if trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
    momentum = trial.suggest_float("momentum", 0.0, 0.99)
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, weight_decay=decay)


def train_epoch(
    model: nn.Module, loader: DataLoader[Item], optimizer: torch.optim.Optimizer
) -> None:
    """The textbook loop."""
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        loss.item()


def accuracy(model: nn.Module, loader: DataLoader[Item]) -> float:
    """The share of right answers."""
    model.eval()
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


class Search:
    """The objective, and the best so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        data = IdxImages(args.root, "train")
        order = np.random.default_rng(0).permutation(len(data))
        self.train = Subset(data, order[: args.train].tolist())
        self.valid = Subset(data, order[args.train : args.train + args.valid].tolist())
        self.best = 0.0
        self.model: nn.Module | None = None
        self.reached: dict[str, float | None] = {str(target): None for target in args.targets}

    def __call__(self, trial: optuna.Trial) -> float:
        """Train one configuration; its best valid accuracy."""
        torch.manual_seed(self.args.seed + trial.number)
        model = build(trial)
        batch = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
        optimizer = make_optimizer(trial, model)
        loader = DataLoader(self.train, batch_size=batch, shuffle=True)
        top, worse = 0.0, 0
        for epoch in range(self.args.epochs):
            train_epoch(model, loader, optimizer)
            score = accuracy(model, DataLoader(self.valid, batch_size=256))
            top, worse = (score, 0) if score > top else (top, worse + 1)
            if score > self.best:
                self._keep(model, score)
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
            if worse == 3:
                break
        return top

    def _keep(self, model: nn.Module, score: float) -> None:
        self.best, self.model = score, copy.deepcopy(model)
        for target, reached in self.reached.items():
            if reached is None and score >= float(target):
                self.reached[target] = round(time.perf_counter() - BEGAN, 1)


def main() -> None:
    """Search, then read the test split for the best model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--train", type=int, default=12000)
    parser.add_argument("--valid", type=int, default=4000)
    parser.add_argument("--sampler", choices=["tpe", "gp", "random"], default="tpe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", type=float, nargs="*", default=[0.88, 0.89])
    parser.add_argument("--until", type=float, default=1.0)
    args = parser.parse_args()
    search = Search(args)

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        seconds, value = time.perf_counter() - BEGAN, trial.value or float("nan")
        standing = f"{trial.state.name:8}  valid {value:.4f}  best {search.best:.4f}"
        print(f"{seconds:9.1f} s  trial {trial.number:3d}  {standing}", flush=True)
        if search.best >= args.until:
            study.stop()

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {
        "tpe": optuna.samplers.TPESampler,
        "gp": optuna.samplers.GPSampler,
        "random": optuna.samplers.RandomSampler,
    }
    study = optuna.create_study(
        direction="maximize",
        sampler=samplers[args.sampler](seed=args.seed),
        pruner=optuna.pruners.MedianPruner(),
    )
    study.optimize(search, n_trials=args.trials, callbacks=[tell])
    seconds = time.perf_counter() - BEGAN
    assert search.model is not None
    test = accuracy(search.model, DataLoader(IdxImages(args.root, "t10k"), batch_size=256))
    found = {"seconds": round(seconds, 1), "reached": search.reached}
    print(json.dumps({**found, "best_valid": search.best, "test": test}))


if __name__ == "__main__":
    main()
