"""What is installed: every room of the source, and nothing that only a checkout has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
SIDES = ("common", "edge", "cloud")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without a network; from a copy, since a build writes beside its sources, and
    tests that run side by side would write there at once.
    """
    out, copy = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for side in SIDES:
        shutil.copytree(ROOT / side, copy / side, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of a fresh environment with the wheel in it, and our dependencies, but not this checkout."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    with ZipFile(wheel) as archive:
        archive.extractall(packages)
    # A path in a .pth file is searched, but the .pth files there are not read: no editable install leaks in.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def run(python: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, cwd=python.parent, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules() -> list[str]:
    """Every module of the source, dotted."""
    paths = [path.relative_to(ROOT) for side in SIDES for path in sorted((ROOT / side).rglob("*.py"))]
    return [".".join(("culling", *path.with_suffix("").parts)).removesuffix(".__init__") for path in paths]


def test_every_room_is_a_package_that_is_installed() -> None:
    packages = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert packages == {name.rpartition(".")[0] for name in modules() if name.count(".") > 1} | {
        f"culling.{side}" for side in SIDES
    }


def test_the_wheel_holds_every_module_and_what_they_read(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    missing = [name for name in modules() if not {f"{name.replace('.', '/')}{end}" for end in ENDS} & names]
    assert missing == []
    assert {f"culling/{name}" for name in DATA} <= names


ENDS = (".py", "/__init__.py")
DATA = (
    "cloud/page/page.html",
    "cloud/page/page.css",
    "cloud/page/app/main.js",
    "cloud/weights/index.json",
    "cloud/weights/student.outline.xz",
    "cloud/weights/student.safetensors",
    "cloud/weights/teacher.safetensors",
    "common/clip/campus.mp4",
    "edge/view/page.html",
    "edge/view/page.css",
    "edge/view/app/main.js",
)


def test_an_installed_wheel_runs_its_commands(python: Path) -> None:
    assert "edge" in run(python, "-m", "culling.common.cli", "--help")
    assert "--rounds" in run(python, "-m", "culling.common.cli", "demo", "--help")
    assert "--config" in run(python, "-m", "culling.common.cli", "edge", "check", "--help")
    assert "--config" in run(python, "-m", "culling.cloud.round", "--help")


def test_rooms_are_imported_from_the_wheel(python: Path) -> None:
    rooms = ["culling.cloud.store.index", "culling.cloud.page.dashboard", "culling.edge.agent"]
    code = f"from importlib import import_module; print(*(import_module(name).__file__ for name in {rooms}), sep='\\n')"
    places = run(python, "-c", code).splitlines()
    assert len(places) == len(rooms)
    assert all(place.startswith(str(python.parents[1])) for place in places)


def test_no_folder_holds_so_many_files_that_nothing_is_found() -> None:
    widest = {
        folder: len(list(folder.glob("*.py"))) for side in SIDES for folder in [ROOT / side, *ROOT.glob(f"{side}/*/")]
    }
    assert {str(folder.relative_to(ROOT)): count for folder, count in widest.items() if count > 16} == {}
