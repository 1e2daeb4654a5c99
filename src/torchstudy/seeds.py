"""Where every random number comes from: seeds derived from the study's one seed, by purpose."""

import hashlib


def derive(seed: int, *path: str | int) -> int:
    """A seed in [0, 2**31) that depends on `seed` and `path` alone, the same on every machine.

    `derive(study.seed, "CNN", 3, "init")` and `derive(study.seed, "CNN", 3, "shuffle")` are
    independent for all practical purposes (SHA-256 of the path).
    """
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
