"""1,000 damaged or hostile inputs: each is used, left out or refused by name; nothing else happens.

    python benchmarks/fuzz.py [--cases 1000] [--seed 0] [--out benchmarks/fuzz.json]

A case is a folder with one mutated image among sound ones, an archive, or a CSV file; it is made
from its number alone and prepared as a study would. Batches run in processes of their own: one that
dies, or says nothing for a minute, counts against the case it had begun. A case fails with any
exception but a DataError, with an image that disappears unnamed, and with a warning on the
terminal. Exits with 1 if a case fails.
"""

import argparse
import io
import json
import os
import random
import select
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

BATCH = 50
LIMIT = 60.0  # seconds without a word from a process: for one case, and its start
SIDE = 12  # pixels of the images that are mutated
SOUND = 12  # sound images per class beside the mutated one
ROWS = 40
EVIL = Path("/tmp/torchstudy-fuzz-evil")  # where absolute names of members point
FORMATS = {
    "AVIF": "RGB", "BMP": "RGB", "DDS": "RGB", "DIB": "RGB", "EPS": "RGB", "GIF": "P",
    "ICNS": "RGB", "ICO": "RGBA", "JPEG": "CMYK", "JPEG2000": "RGB", "MPO": "RGB", "MSP": "1",
    "PCX": "P", "PDF": "RGB", "PNG": "I;16", "PPM": "RGB", "QOI": "RGB", "SGI": "RGB",
    "SPIDER": "F", "TGA": "RGBA", "TIFF": "RGBA", "WEBP": "RGBA", "XBM": "1",
}  # fmt: skip
SUFFIXES = ("png", "jpg", "gif", "tif", "bmp", "webp", "ppm", "JPEG")
NASTY = (
    "", " ", "nan", "inf", "-inf", "1e999", "-0", "0x1f", "1_000", "2024-02-30", "12:61", "=1+1",
    "@SUM(A1)", "'", '"', '""', '"a', 'a"b"', "\0", "\ufeff", "\u202e", "\r", "\t", ",", ";",
    "NULL", "True", "é", "😀", "../../x.png", "http://x/y.png", "9" * 400, "x" * 5000, "</script>",
    "\x1b[2J",
)  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes cut, overwritten, repeated or with others put in between; sometimes unchanged."""
    kind = rng.randrange(7)
    at = rng.randrange(len(data) + 1)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + rng.randbytes(rng.randrange(1, 40)) + data[at:]
    if kind == 2:
        return data[:at] + data[at : at + rng.randrange(1, 99)] * rng.randrange(2, 9) + data[at:]
    if kind == 3:  # sizes in a header
        return (
            data[: at % 64] + rng.choice([b"\xff\xff\xff\x7f", b"\0\0\0\0"]) + data[at % 64 + 4 :]
        )
    if kind == 4:
        return data
    changed = bytearray(data)
    for _ in range(rng.choice([1, 4, 32])):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def picture(rng: random.Random, mode: str, format: str) -> bytes:
    """A small image of noise in one of Pillow's formats, now and then with several frames."""
    pixels = np.frombuffer(rng.randbytes(SIDE * SIDE * 3), dtype=np.uint8).reshape(SIDE, SIDE, 3)
    image = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
    file = io.BytesIO()
    frames = format in ("GIF", "TIFF", "WEBP", "PNG") and rng.random() < 0.3
    more = {"save_all": True, "append_images": [image.rotate(90)]} if frames else {}
    image.save(file, format=format, **more)
    return file.getvalue()


def sound_folder(folder: Path) -> None:
    """Two classes of sound images."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(SOUND):
            noise = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / name / f"{number}.png")


def image_case(rng: random.Random, folder: Path) -> str:
    """One mutated file among sound ones: it is used, or named and left out; the others stay."""
    from torchstudy import Images
    from torchstudy.data.dataset import prepare

    sound_folder(folder)
    format = rng.choice(sorted(FORMATS))
    name = f"odd.{rng.choice(SUFFIXES)}"
    (folder / "cat" / name).write_bytes(mutated(picture(rng, FORMATS[format], format), rng))
    data = prepare(Images(folder, size=8, on_bad_image="skip"), seed=0)
    kept, said = len(data.targets), " ".join(data.notes)
    if kept == 2 * SOUND + 1:
        return "image used"
    assert kept == 2 * SOUND, f"{kept} images are left"
    assert f"cat/{name}" in said, said
    return "image named and left out"


def archive_case(rng: random.Random, folder: Path) -> str:
    """An archive of sound images, with odd members or mutated as a whole."""
    from torchstudy import Images
    from torchstudy.data.dataset import prepare

    sound_folder(folder / "made")
    folder.joinpath("out").mkdir()
    suffix = rng.choice(["zip", "tar", "tar.gz", "tgz"])
    path = folder / "out" / f"data.{suffix}"
    files = sorted((folder / "made").rglob("*.png"))
    make = _zip_of if suffix == "zip" else _tar_of
    make(path, [(str(file.relative_to(folder / "made")), file.read_bytes()) for file in files], rng)
    if rng.random() < 0.6:
        path.write_bytes(mutated(path.read_bytes(), rng))
    before = sorted(folder.rglob("*"))
    try:
        data = prepare(Images(path, size=8, on_bad_image="skip"), seed=0)
    finally:
        assert sorted(folder.rglob("*")) == before, "something was written beside the archive"
        outside = [
            *folder.parent.glob("evil*"),
            *folder.parent.glob("cache/evil*"),
            *EVIL.glob("*"),
        ]
        assert not outside, "something was written outside of the cache"
    return "archive used" if len(data.targets) == 2 * SOUND else "archive used in part"


def odd_name(rng: random.Random) -> str:
    """The name of a member that an archive should not have, or should be survived."""
    return rng.choice([
        "../../evil.png", f"{EVIL}/evil.png", "cat/../../evil.png", "cat\\..\\..\\evil.png",
        "C:\\x.png", "cat/0.png", "cat/0.png/inner.png", "cat", "", ".",
        "cat/" + "n" * 300 + ".png", "cat/\x1b[2J.png", "cat/\u202egnp.exe", "cat/a\nb.png",
        "\udcff.png", "d/" * 200 + "x.png",
    ])  # fmt: skip


def _zip_of(path: Path, files: list[tuple[str, bytes]], rng: random.Random) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same name twice
        with zipfile.ZipFile(path, "w", rng.choice([0, 8, 12, 14])) as made:
            for name, data in files:
                made.writestr(name, data)
            if rng.random() < 0.5:
                name = odd_name(rng).encode("utf-8", "replace").decode()
                made.writestr(name or "x", rng.randbytes(30))


def _tar_of(path: Path, files: list[tuple[str, bytes]], rng: random.Random) -> None:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as made:
        for name, data in files:
            _add(made, tarfile.TarInfo(name), data)
        if rng.random() < 0.5:
            odd = tarfile.TarInfo(odd_name(rng))
            odd.type = rng.choice([
                tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
                tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.BLKTYPE,
            ])  # fmt: skip
            odd.linkname = rng.choice(["/etc/passwd", "../../..", "cat/0.png", "missing", ""])
            odd.mode = rng.choice([0o644, 0o000, 0o4777])
            _add(made, odd, rng.randbytes(30) if odd.isreg() else b"")


def _add(made: tarfile.TarFile, info: tarfile.TarInfo, data: bytes) -> None:
    info.size = len(data)
    made.addfile(info, io.BytesIO(data))


def csv_case(rng: random.Random, folder: Path) -> str:
    """A table with nasty headers and entries, or broken quotes, rows, encodings and bytes."""
    from torchstudy import Images
    from torchstudy.data.dataset import prepare

    folder.mkdir(parents=True)
    names = ["size", "shop", "kind", *(rng.choice(NASTY) for _ in range(rng.choice([0, 0, 1, 2])))]
    rate = rng.choice([0, 0, 0.03, 0.3])  # of rows with a nasty entry
    rows = [
        [f"{rng.gauss(0, 1):.3f}", rng.choice(["n", "s"]), rng.choice("ab"), *(["1"] * 9)]
        for _ in range(ROWS)
    ]
    for row in rows:
        if rng.random() < rate:
            row[rng.randrange(len(names))] = rng.choice(NASTY)
    quote = rng.random() < 0.5
    lines = [_line(names, quote), *(_line(row[: len(names)], quote) for row in rows)]
    if rng.random() < 0.2:
        lines[rng.randrange(len(lines))] += rng.choice([",x", ',"', ",,,,", '"'])
    text = rng.choice(["\n", "\r\n", "\r"]).join(lines)
    encoding = rng.choice(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "cp1252"])
    data = text.encode(encoding, "replace")
    path = folder / "rows.csv"
    path.write_bytes(mutated(data, rng) if rng.random() < 0.3 else data)
    data_of = prepare(Images(path, target="kind", on_bad_image="skip"), seed=0)
    assert len(data_of.targets) > 0
    return "table used"


def _line(cells: list[str], quote: bool) -> str:
    if not quote:
        return ",".join(cells)
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


KINDS: tuple[tuple[str, Callable[[random.Random, Path], str]], ...] = (
    ("image", image_case), ("archive", archive_case), ("image", image_case), ("csv", csv_case),
)  # fmt: skip


def work(seed: int, first: int, last: int) -> None:
    """Run cases in this process; one line of JSON when a case begins and one when it has ended."""
    from torchstudy.errors import DataError

    for number in range(first, last):
        kind, case = KINDS[number % len(KINDS)]
        print(json.dumps({"case": number, "kind": kind}), flush=True)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            os.environ["TORCHSTUDY_CACHE"] = f"{folder}/cache"
            try:
                said = case(random.Random(f"{seed} {number}"), Path(folder) / "data")
                message = ""
            except DataError as error:
                said, message = f"{kind} refused", str(error)
            except Exception as error:
                said, message = "failed", f"{type(error).__name__}: {error}"
            if seen:
                said, message = "failed", f"warning: {seen[0].message}"
        took = round(time.perf_counter() - began, 3)
        ended = {"case": number, "said": said, "message": message[:300], "seconds": took}
        print(json.dumps(ended), flush=True)


def batch(seed: int, first: int, last: int) -> list[dict[str, object]]:
    """What became of the cases; those after one at which a process died or hung get another."""
    ended: list[dict[str, object]] = []
    while first < last:
        output, how = told_by(seed, first, last)
        lines = [json.loads(line) for line in output.splitlines() if line.endswith(b"}")]
        done = [line for line in lines if "said" in line]
        ended += done
        first += len(done)
        if first < last:
            ended.append({"case": first, "said": "failed", "message": how, "seconds": LIMIT})
            first += 1
    return ended


def told_by(seed: int, first: int, last: int) -> tuple[bytes, str]:
    """What a process says that works on these cases, and how it ended."""
    command = [sys.executable, __file__, "--seed", str(seed), "--work", str(first), str(last)]
    output = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        while select.select([pipe], [], [], LIMIT)[0]:
            if not (part := os.read(pipe, 2**16)):
                return output, f"the process ended with {process.wait()}"
            output += part
        process.kill()
    return output, f"nothing within {LIMIT:.0f} s"


def main() -> None:
    """Run all cases, print and write what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.seed, *given.work)
        return
    began = time.perf_counter()
    results: list[dict[str, object]] = []
    for first in range(0, given.cases, BATCH):
        results += batch(given.seed, first, min(first + BATCH, given.cases))
        print(f"{len(results)} of {given.cases}", flush=True)
    failed = [result for result in results if result["said"] == "failed"]
    found = {
        "n": len(results),
        "seed": given.seed,
        "outcomes": dict(sorted(Counter(str(result["said"]) for result in results).items())),
        "failed": failed,
        "slowest case (s)": max(float(str(result["seconds"])) for result in results),
        "seconds": round(time.perf_counter() - began, 1),
    }
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
