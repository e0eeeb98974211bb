"""Formats that have a file for each picture: where it lies, and which picture belongs to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

from culling.cloud.annotations.picture import IMAGES, Picture
from culling.common.errors import InputError


@dataclass(frozen=True)
class Sizes:
    """Where the sizes of pictures are known from that a label file does not give: files below `folder`, else `size`,
    `(width, height)`, which holds for every one.
    """

    folder: Path | None = None
    size: tuple[int, int] | None = None

    def of(self, files: Iterable[Path], name: str, at: str) -> tuple[int, int]:
        """Return the size of the first of `files` that there is, or of picture `name`. Raises InputError."""
        wanted = [*files, *([] if self.folder is None else (self.folder / one for one in with_suffixes(name)))]
        for path in wanted:
            if path.is_file():
                return size_of(path)
        if self.size is None:
            raise InputError(
                f"{at}: the size of its picture {name} is not known: name the pictures' folder with --images, or the "
                "size of all with --size, e.g. 1280x720"
            )
        return self.size


def with_suffixes(name: str) -> list[PurePosixPath]:
    """Return the names that a picture may have: its own, then those with other endings."""
    path = PurePosixPath(name)
    return [path, *(path.with_suffix(suffix) for suffix in IMAGES if suffix != path.suffix)]


def size_of(path: Path) -> tuple[int, int]:
    """Return a picture's `(width, height)`, by its header alone. Raises InputError for what is none."""
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: is no picture that can be read: {error}") from None


def inside(pictures: Sequence[Picture]) -> list[PurePosixPath]:
    """Return the file names of pictures, as paths below a folder.

    Raises InputError for one that leads out of it, or whose labels would go into the same file as another's.
    """
    names = [PurePosixPath(picture.file_name) for picture in pictures]
    taken: dict[PurePosixPath, Picture] = {}
    for picture, name in zip(pictures, names, strict=True):
        if name.is_absolute() or ".." in name.parts or "\0" in str(name) or not name.name:
            raise InputError(f"{picture.at}: a picture named {picture.file_name!r} leads out of the folder")
        other = taken.setdefault(name.with_suffix(""), picture)
        if other is not picture:
            raise InputError(
                f"{picture.at}: {picture.file_name} and {other.file_name} would share one label file: rename one"
            )
    return names


def label_path(folder: Path, name: PurePosixPath, suffix: str) -> Path:
    """Return where the labels of a picture lie."""
    return folder / name.with_suffix(suffix)
