"""The text of `predict.py` in an export: it needs torch, torchvision and pillow, nothing else."""

from torchstudy.models.deployed import Deployed

BEGINNING = '''"""{about}

    {usage}

Needs torch, torchvision and pillow; reads model.pt2 and config.json beside it.
"""

{imports}

FOLDER = Path(__file__).parent
DATA = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["data"]
'''

READING = '''

def pixels(path: str) -> torch.Tensor:
    """The bytes (channels, height, width) of an image, as those that the network learned from."""
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
    except OSError as error:
        sys.exit(f"{path} is not an image that can be read: {error}")
    if image.mode.startswith("I"):  # 16 bits become 8
        image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    elif image.mode not in ("L", "RGB"):  # what is transparent becomes white
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    image = image.convert("RGB").convert("L" if DATA["channels"] == 1 else "RGB")
    return pil_to_tensor(ImageOps.fit(image, (DATA["width"], DATA["height"]), Image.BILINEAR))
'''

LOADED = """model = torch.export.load(FOLDER / "model.pt2").module()
"""

EACH = """for path in sys.argv[1:] or sys.exit(__doc__):
    answer = model(pixels(path)[None])[0]
"""

VIEWS = """paths, views = sys.argv[1:] or sys.exit(__doc__), DATA["views"]
if len(paths) % views:
    sys.exit(f"an item has {views} images, but {len(paths)} were given")
for start in range(0, len(paths), views):
    path = " ".join(paths[start : start + views])
    answer = model(torch.stack([pixels(name) for name in paths[start : start + views]])[None])[0]
"""

SAY_CLASS = """    best = int(answer.argmax())
    print(f"{path}: {DATA['classes'][best]!r} {answer[best]:.4f}")
"""

SAY_VALUE = """    print(f"{path}: {DATA['target']} {float(answer):.6g}")
"""

SAVE_IMAGE = """    made = Path(f"{Path(path).stem}-made.png")
    save_image(answer, made)
    print(f"{path}: {made}")
"""

GENERATE = """if len(sys.argv) != 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
    sys.exit(__doc__)
images = model(torch.randn(int(sys.argv[1]), {latent}))
save_image(images, sys.argv[2])
print(f"{{len(images)}} images of {{DATA['width']}} x {{DATA['height']}} pixels: {{sys.argv[2]}}")
"""

NUMBER = '''

def number(entry: str) -> float:
    """A number; one that is missing counts as the mean."""
    return float(entry) if entry.strip() else float("nan")
'''

CODE = '''

def code(entry: str, values: list[str]) -> int:
    """The place of a category among those in training, from 1; 0 for any other. 7.0 is 7."""
    spelt = entry.strip(), entry.strip().removesuffix(".0")
    return next((values.index(each) + 1 for each in spelt if each in values), 0)
'''

ROWS = """

if len(sys.argv) < 2:
    sys.exit(__doc__)
inputs = []
try:
    with open(sys.argv[1], newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, restval="", skipinitialspace=True))
{columns}except (OSError, ValueError, csv.Error) as error:
    sys.exit(f"{{sys.argv[1]}} cannot be read: {{error}}")
except KeyError as error:
    sys.exit(f"{{sys.argv[1]}} has no column {{error}}")
"""

NUMBERS = """    numbers = [[number(row[name]) for name in DATA["numbers"]] for row in rows]
    inputs.append(torch.tensor(numbers, dtype=torch.float64))
"""

CATEGORIES = """    known = dict(zip(DATA["categories"], DATA["category_values"], strict=True))
    inputs.append(torch.tensor([[code(row[at], known[at]) for at in known] for row in rows]))
"""

ROW_IMAGES = """images = [pixels(path) for path in sys.argv[2:]]
if len(images) != len(rows) * DATA["views"]:
    sys.exit(f"{len(rows)} rows have {len(rows) * DATA['views']} images; {len(images)} were given")
shape = [len(rows), DATA["channels"], DATA["height"], DATA["width"]]
shape[1:1] = [DATA["views"]] if DATA["views"] > 1 else []
inputs.insert(0, torch.stack(images).reshape(shape))
"""

EACH_ROW = """for place, answer in enumerate(model(*inputs), start=1):
    path = f"row {place}"
"""

SAY = {"classes": SAY_CLASS, "value": SAY_VALUE, "images": SAVE_IMAGE}
ABOUT = {
    "classes": "The class of each image, and its probability.",
    "value": "The value that is predicted for each image.",
    "images": "Each image as the network gives it back, written to NAME-made.png.",
    "samples": "New images, drawn by the network, side by side in one file.",
}


def script(deployed: Deployed) -> str:
    """`predict.py` for what a deployed network takes and gives."""
    if deployed.gives == "samples":
        return _generating(deployed)
    return _of_rows(deployed) if deployed.takes != ("images",) else _of_images(deployed)


def usage(deployed: Deployed) -> str:
    """The command line of `predict.py`."""
    if deployed.gives == "samples":
        return "python predict.py COUNT FILE.png"
    if deployed.takes == ("images",):
        views = " ".join(f"VIEW{n + 1}" for n in range(deployed.data.views))
        return f"python predict.py {'IMAGE' if deployed.data.views == 1 else views} ..."
    images = " IMAGE ... (in the order of the rows)" if "images" in deployed.takes else ""
    return f"python predict.py TABLE.csv{images}"


def _of_images(deployed: Deployed) -> str:
    writes = deployed.gives == "images"
    return "".join(
        [
            _beginning(deployed, ABOUT[deployed.gives], images=True, writes=writes),
            READING,
            "\n\n",
            LOADED,
            EACH if deployed.data.views == 1 else VIEWS,
            _say(deployed),
        ]
    )


def _of_rows(deployed: Deployed) -> str:
    has_images = "images" in deployed.takes
    about = ABOUT[deployed.gives].replace("image", "row of a table")
    has_numbers, has_categories = (name in deployed.takes for name in ("numbers", "categories"))
    columns = NUMBERS * has_numbers + CATEGORIES * has_categories
    return "".join(
        [
            _beginning(deployed, about, images=has_images, rows=True),
            READING * has_images,
            NUMBER * has_numbers,
            CODE * has_categories,
            ROWS.format(columns=columns),
            ROW_IMAGES * has_images,
            LOADED,
            EACH_ROW,
            _say(deployed),
        ]
    )


def _say(deployed: Deployed) -> str:
    quantity = (
        "DATA['target'].removeprefix('log ')" if deployed.data.log_target else "DATA['target']"
    )
    return SAY[deployed.gives].replace("DATA['target']", quantity)


def _generating(deployed: Deployed) -> str:
    about = ABOUT[deployed.gives]
    start = _beginning(deployed, about, images=False, writes=True)
    shape = ", ".join(map(str, deployed.noise_shape))
    return start + LOADED + GENERATE.format(latent=shape)


def _beginning(
    deployed: Deployed, about: str, *, images: bool, writes: bool = False, rows: bool = False
) -> str:
    plain = ["csv"] if rows else []
    libraries = ["from PIL import Image, ImageOps"] if images else []
    libraries += ["from torchvision.transforms.functional import pil_to_tensor"] if images else []
    libraries += ["from torchvision.utils import save_image"] if writes else []
    lines = [f"import {name}" for name in [*plain, "json", "sys"]]
    lines += ["from pathlib import Path", "", "import torch", *libraries]
    return BEGINNING.format(about=about, usage=usage(deployed), imports="\n".join(lines))
