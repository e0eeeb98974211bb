"""What the Dockerfiles say of the last stage, and what their build may copy."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"


@dataclass(frozen=True)
class Image:
    """One side's image: `environment`, `entrypoint`, `command` and `health` are what a container is run with."""

    side: str
    instructions: tuple[tuple[str, str], ...]

    @property
    def last(self) -> list[tuple[str, str]]:
        """The instructions of the last stage: the others leave nothing but what is copied from them."""
        begun = max(at for at, (word, _) in enumerate(self.instructions) if word == "FROM")
        return list(self.instructions[begun:])

    def all(self, word: str, stage: bool = True) -> list[str]:
        return [rest for name, rest in (self.last if stage else self.instructions) if name == word]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (pair.partition("=") for line in self.all("ENV") for pair in shlex.split(line))
        return {name: value for name, _, value in pairs}

    @property
    def entrypoint(self) -> list[str]:
        return list(json.loads(self.all("ENTRYPOINT")[0]))

    @property
    def command(self) -> list[str]:
        return list(json.loads(self.all("CMD")[0]))

    @property
    def health(self) -> list[str]:
        """The command of HEALTHCHECK."""
        return list(json.loads(self.all("HEALTHCHECK")[0].partition("CMD ")[2]))

    @property
    def ports(self) -> set[int]:
        return {int(port) for line in self.all("EXPOSE") for port in line.split()}

    @property
    def folders(self) -> set[str]:
        """Those that it makes for its user."""
        made = re.findall(r"install -d -o culling -g culling -m 0700 (.*)", " ".join(self.all("RUN")))
        return {folder for line in made for folder in line.split()}

    def arguments(self) -> dict[str, str]:
        """The build's arguments, with their defaults."""
        pairs = (line.partition("=") for line in self.all("ARG", stage=False))
        return {name: value for name, _, value in pairs}


def image(side: str) -> Image:
    """Read the Dockerfile of a side."""
    text = (DOCKER / f"{side}.Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    words = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return Image(side, tuple((word, rest.strip()) for word, _, rest in words))


def let_through(path: str) -> bool:
    """Whether `.dockerignore` leaves a path in what the build sees; the last line that matches decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        whole = any(fnmatch(path[: len(path) - len(rest)].rstrip("/"), pattern) for rest in _rests(path))
        if not line.startswith("#") and (whole or ("**/" in line and fnmatch(path.rpartition("/")[2], pattern))):
            kept = line.startswith("!")
    return kept


def _rests(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[at:]) for at in range(1, len(parts) + 1)]
