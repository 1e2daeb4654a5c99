"""Images in folders: one folder per class, with or without folders for the splits."""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from torchstudy.data.listing import BadImage, Listing, Part, Read
from torchstudy.data.pictures import SUFFIXES, all_grey, open_picture
from torchstudy.data.stamps import stamped
from torchstudy.errors import DataError, did_you_mean
from torchstudy.visible import storable

TRAIN_NAMES = ("train",)
VALID_NAMES = ("val", "valid", "validation")
TEST_NAMES = ("test",)
LAYOUT = "root/<class>/*.jpg or root/train/<class>/*.jpg, root/val/<class>/*.jpg"


@dataclass(slots=True)
class _Found:
    files: list[tuple[str, str, bytes]] = field(default_factory=list)  # name, path, stamp
    bad: list[BadImage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    name: str  # "train/", or "" when there are no folders for the splits
    part: Part
    children: list[Path]  # one folder per class


def folder_listing(root: Path, title: str) -> Listing:
    """Every image below `root`, sorted by relative path; DataError lists all that is wrong.

    With `train/` and one more split folder, that one is the test split; with `train/`, `val/` and
    `test/`, they are what they say. Links that leave `root` are not followed.
    """
    root = root.resolve()
    found = _Found()
    layout = _layout(root, found)
    classes = _classes(layout, found)
    rows: list[tuple[str, str, bytes, int, Part]] = []
    for group in layout:
        for child in group.children:
            before = len(found.files)
            _collect(child, root, found)
            label = classes.get(child.name, -1)
            rows += [(*file, label, group.part) for file in found.files[before:]]
    if not rows and not found.bad and not found.problems:
        what = "class folders" if not classes else f"images ({', '.join(SUFFIXES)})"
        found.problems.append(f"data: {title!r} holds no {what}; give {LAYOUT}")
    if found.problems:
        raise DataError(found.problems)
    return _listing(sorted(rows), tuple(map(storable, classes)), title, tuple(found.bad))


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder by name, without hidden ones."""
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not _is_hidden(entry.name)]
    return sorted(kept, key=lambda entry: entry.name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _listing(
    rows: list[tuple[str, str, bytes, int, Part]],
    classes: tuple[str, ...],
    title: str,
    bad: tuple[BadImage, ...],
) -> Listing:
    paths = [row[1] for row in rows]
    digest = hashlib.sha256(repr((classes, bad)).encode())
    for _, _, state, _, part in rows:
        digest.update(state + bytes([part]))
    return Listing(
        title=title,
        classes=classes,
        names=[storable(row[0]) for row in rows],
        labels=np.array([row[3] for row in rows], dtype=np.int64),
        parts=np.array([row[4] for row in rows], dtype=np.int8),
        shape=None,
        stamp=digest.hexdigest(),
        reader=lambda: _reader(paths),
        is_grey=lambda: all_grey(paths),
        bad=bad,
        paths=paths,
    )


def _reader(paths: list[str]) -> Read:
    return lambda item: open_picture(paths[item])


def _layout(root: Path, found: _Found) -> list[_Group]:
    top = _folders(root, root, found)
    folders = {child.name.lower(): child for child in top}
    train, valid, test = (
        [folders[name] for name in names if name in folders]
        for names in (TRAIN_NAMES, VALID_NAMES, TEST_NAMES)
    )
    if not train or not (valid or test or len(folders) == 1):
        return [_Group(name="", part=Part.POOL, children=top)]
    if len(valid) > 1:
        names = " and ".join(repr(folder.name) for folder in valid)
        found.problems.append(f"data: {str(root)!r} has {names}; keep one validation folder")
    parts = [(folder, Part.VALID if test else Part.TEST) for folder in valid]
    parts = [(train[0], Part.POOL), *parts, *((folder, Part.TEST) for folder in test)]
    return [
        _Group(name=f"{folder.name}/", part=part, children=_folders(folder, root, found))
        for folder, part in parts
    ]


def _classes(layout: list[_Group], found: _Found) -> dict[str, int]:
    """Label by class folder, from the first group; the others must have the same ones."""
    first = {child.name for child in layout[0].children}
    if layout[0].name and not first:
        found.problems.append(f"data: {layout[0].name} holds no class folders; give {LAYOUT}")
    for group in layout[1:]:
        others = {child.name for child in group.children}
        if not others:
            found.problems.append(f"data: {group.name} holds no class folders; give {LAYOUT}")
            continue
        for have, lack, names, known in (
            (group.name, layout[0].name, others - first, first - others),
            (layout[0].name, group.name, first - others, set()),
        ):
            if names:
                found.problems.append(_difference(have, lack, sorted(names), known))
    return {name: label for label, name in enumerate(sorted(first))}


def _difference(have: str, lack: str, names: list[str], known: set[str], limit: int = 8) -> str:
    shown = ", ".join(repr(storable(name)) for name in names[:limit])
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    hint = did_you_mean(names[0], known) if len(names) == 1 else ""
    noun = "class folder" if len(names) == 1 else "class folders"
    return f"data: {have} has the {noun} {shown}{more}, which {lack} has not{hint}"


def _folders(folder: Path, root: Path, found: _Found) -> list[Path]:
    """The folders directly in `folder`; links to folders are noted as bad, not followed."""
    children = []
    for entry in _entries(folder, found):
        if _links_to_folder(entry):
            _note_bad(entry, root, "a link to a folder, which is not followed", found)
        elif entry.is_dir(follow_symlinks=False):
            children.append(Path(entry.path))
    return children


def _collect(folder: Path, root: Path, found: _Found) -> None:
    waiting = [folder]
    while waiting:
        for entry in _entries(waiting.pop(), found):
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif _links_to_folder(entry):
                _note_bad(entry, root, "a link to a folder, which is not followed", found)
            elif entry.name.lower().endswith(SUFFIXES):
                _add(entry, root, found)


def _add(entry: os.DirEntry[str], root: Path, found: _Found) -> None:
    try:
        status = entry.stat()
    except OSError as error:
        _note_bad(entry, root, error.strerror or "cannot be read", found)
        return
    if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
        _note_bad(entry, root, "a link that leaves the folder", found)
    elif not stat.S_ISREG(status.st_mode):
        _note_bad(entry, root, "not a regular file", found)
    else:
        name = _name(entry, root)
        found.files.append((name, entry.path, stamped(name, status)))


def _links_to_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and os.path.isdir(entry.path)  # False for links that go in circles


def _note_bad(entry: os.DirEntry[str], root: Path, reason: str, found: _Found) -> None:
    found.bad.append(BadImage(name=storable(_name(entry, root)), reason=reason))


def _name(entry: os.DirEntry[str], root: Path) -> str:
    return os.path.relpath(entry.path, root).replace(os.sep, "/")


def _entries(folder: Path, found: _Found) -> list[os.DirEntry[str]]:
    try:
        return visible(folder)
    except OSError as error:
        found.problems.append(f"data: {storable(str(folder))} cannot be read ({error.strerror})")
        return []
