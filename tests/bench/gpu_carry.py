"""Brings a checkout, and what it needs, to a machine that has a GPU and no network. It needs nothing but Python.

    python tests/bench/gpu_carry.py gather DIR [--python 3.12] [--skip NAME]... [--data FOLDER] [--piece 48]
    python tests/bench/gpu_carry.py ready DIR WORK        there: prints the interpreter to go on with

`gather` packs the wheels of `culling[cloud-gpu]` for x86-64 Linux without torch, torchvision and the CUDA libraries,
which the machine must have; the files of the checkout that are too large to go along with it; and FOLDER, to train on.
The archive is cut into pieces, each in a folder of its own, since a machine may take only so much at a time.

`ready` puts them together, checks them, and lays out an environment in WORK: the wheels, and the machine's own packages
behind them. Those are linked one by one, since Python's own way (`--system-site-packages`) would see those of the
system and not those of an environment that the machine's Python is in, and would see its `onnxruntime` beside ours.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
THERE = frozenset({"torch", "torchvision"})
"""Packages that a machine with a GPU has, and that are too large to bring."""
LARGE = 8 * MIB
"""Tracked files from this size on are packed."""
PIECE, SUM = "piece", "piece.sha256"
SIDES = ("common", "edge", "cloud")
PLATFORMS = ("manylinux1", "manylinux2010", "manylinux2014", *(f"manylinux_2_{minor}" for minor in range(5, 36)))


def requirements(skip: Iterable[str] = ()) -> list[str]:
    """Return what `culling[cloud-gpu]` needs, without extras, torch and `skip`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    left = THERE | {normal(name) for name in skip}
    found = [*project["dependencies"], *expanded(project["optional-dependencies"], "cloud-gpu")]
    return [re.sub(r"\[.*?\]", "", one) for one in found if name_of(one) not in left]


def expanded(extras: dict[str, list[str]], name: str) -> Iterator[str]:
    """Yield the requirements of an extra, and of those that it is made of."""
    for one in extras[name]:
        if name_of(one) == "culling":
            for part in one.partition("[")[2].rstrip("]").split(","):
                yield from expanded(extras, part)
        else:
            yield one


def name_of(requirement: str) -> str:
    """Return the name of the package that a requirement, a wheel or its metadata is of."""
    found = re.match(r"[A-Za-z0-9._-]*[A-Za-z0-9]", requirement)
    return normal(found[0] if found else requirement)


def normal(name: str) -> str:
    """Return a package's name in the one spelling by which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


# Here


def gather(folder: Path, python: str, skip: Sequence[str], data: Path | None, piece: int) -> None:
    """Write the pieces to `folder`, which must not hold any, and say what they are."""
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder}: is not empty: name another folder, or remove it")
    with tempfile.TemporaryDirectory(prefix="culling-gather-") as name:
        packed = Path(name) / "packed"
        download(packed / "wheels", python, skip)
        metadata(packed / "metadata")
        large = large_files()
        for path in large:
            copy(ROOT / path, packed / "tree" / path)
        if data is not None:
            copy(data, packed / "data")
        count = cut(packed, folder, piece * MIB)
    print(f"{folder}: {count} pieces of at most {piece} MiB, {folder}/00 and so on")
    rest = sum((ROOT / path).stat().st_size for path in tracked() if path not in large) / MIB
    print(f"packed, so that the checkout can go without them, with {rest:.0f} MiB: {', '.join(large)}")


def download(folder: Path, python: str, skip: Sequence[str]) -> None:
    """Download the wheels, and say how large each is."""
    platforms = [f"--platform={name}_x86_64" for name in PLATFORMS]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    target = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms]
    subprocess.run([*command, *target, "-c", str(ROOT / "constraints.txt"), *requirements(skip)], check=True)
    left = {normal(name) for name in skip} | THERE
    for wheel in sorted(folder.glob("*.whl")):
        if name_of(wheel.name.partition("-")[0]) in left:
            wheel.unlink()  # something else needs it, and the machine has it
    wheels = sorted(folder.glob("*.whl"), key=lambda wheel: -wheel.stat().st_size)
    for wheel in wheels:
        print(f"{wheel.stat().st_size / MIB:7.1f} MiB  {wheel.name}")
    print(f"{sum(wheel.stat().st_size for wheel in wheels) / MIB:7.1f} MiB  {len(wheels)} wheels")


def metadata(folder: Path) -> None:
    """Write what an installed Culling says of itself: its version, and its entry points."""
    folder.mkdir(parents=True)
    script = f"import setuptools.build_meta as b; b.prepare_metadata_for_build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def large_files() -> list[str]:
    """Return the tracked files that are packed, as paths in the checkout."""
    return [path for path in tracked() if (ROOT / path).stat().st_size >= LARGE]


def tracked() -> list[str]:
    """Return the tracked files that lie in the checkout, as paths in it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.split("\0") if path and (ROOT / path).is_file()]


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def cut(packed: Path, folder: Path, size: int) -> int:
    """Write the archive of `packed` in pieces of `size` bytes, each with its SHA-256; return how many there are."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(packed, ".")
        file.seek(0)
        count = 0
        while data := file.read(size):
            place = folder / f"{count:02}"
            place.mkdir(parents=True)
            (place / PIECE).write_bytes(data)
            (place / SUM).write_text(hashlib.sha256(data).hexdigest() + "\n")
            count += 1
    (folder / f"{count - 1:02}" / "last").touch()
    return count


# There


def ready(folder: Path, work: Path) -> Path:
    """Return an interpreter that has everything, laid out in `work` unless it is there. `folder` holds pieces, or just
    wheels. Raises `SystemExit` where a piece is missing or damaged.
    """
    python = work / "env" / "bin" / "python"
    done = work / "ready"
    if done.exists():
        return python
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    wheels = folder
    if any(folder.glob("*/" + PIECE)):
        join(folder, work / "packed")
        wheels = work / "packed" / "wheels"
        restore(work / "packed" / "tree")
    else:
        metadata(work / "packed" / "metadata")
    site = environment(work / "env")
    install(wheels, site)
    lay_out(site, work / "packed" / "metadata")
    parents = [Path(place) for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    for parent in parents:
        link(parent, site)
    done.touch()
    return python


def join(folder: Path, packed: Path) -> None:
    """Unpack what the pieces hold together."""
    places = sorted(place.parent for place in folder.glob("*/" + PIECE))
    if [place.name for place in places] != [f"{number:02}" for number in range(len(places))]:
        raise SystemExit(f"{folder}: pieces are missing, there are {', '.join(place.name for place in places)}")
    if not (places[-1] / "last").exists():
        raise SystemExit(f"{folder}: the last piece is missing: the highest is {places[-1].name}")
    with tempfile.TemporaryFile(dir=packed.parent) as file:
        for place in places:
            data = (place / PIECE).read_bytes()
            if hashlib.sha256(data).hexdigest() != (place / SUM).read_text().strip():
                raise SystemExit(f"{place}: damaged on its way: bring it again")
            file.write(data)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            archive.extractall(packed, filter="data")


def restore(tree: Path) -> None:
    """Put files of the checkout where they are absent."""
    for path in (path for path in tree.rglob("*") if path.is_file()):
        target = ROOT / path.relative_to(tree)
        if not target.exists():
            copy(path, target)


def environment(folder: Path) -> Path:
    """Return the folder for packages of a new, empty environment of this interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    places = {"base": str(folder), "platbase": str(folder)}
    return Path(sysconfig.get_path("purelib", "venv", places))


def install(wheels: Path, site: Path) -> None:
    """Install all wheels of a folder, and nothing else. Their needs are among them, or the machine's own."""
    found = [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    if found:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        offline = ["--no-index", "--find-links", str(wheels), "--no-deps", "--no-compile", "--target", str(site)]
        subprocess.run([*command, *offline, *found], check=True, stdout=sys.stderr)


def lay_out(site: Path, metadata: Path) -> None:
    """Make the checkout's folders importable as `culling`, as an editable installation does."""
    package = site / "culling"
    package.mkdir()
    (package / "__init__.py").touch()
    for side in SIDES:
        (package / side).symlink_to(ROOT / side)
    for told in metadata.glob("*.dist-info"):
        shutil.copytree(told, site / told.name)


def link(parent: Path, site: Path) -> None:
    """Link the packages of `parent` into `site` that it lacks; no second onnxruntime where it has one."""
    ours = {entry.name for entry in site.iterdir()}
    told = {name_of(name.partition("-")[0]) for name in ours if name.endswith(".dist-info")}
    if told & {"onnxruntime", "onnxruntime-gpu"}:
        told |= {"onnxruntime", "onnxruntime-gpu"}
    for entry in sorted(parent.iterdir()):
        if entry.name.endswith((".pth", ".egg-link")) or entry.name in ("__pycache__", "nvidia"):
            continue
        if entry.name not in ours and not (entry.name.endswith(".dist-info") and name_of_info(entry) in told):
            (site / entry.name).symlink_to(entry)
    if (libraries := parent / "nvidia").is_dir():  # a folder that many packages share, where onnxruntime looks
        (site / "nvidia").mkdir(exist_ok=True)
        for entry in libraries.iterdir():
            if not (site / "nvidia" / entry.name).exists():
                (site / "nvidia" / entry.name).symlink_to(entry)


def name_of_info(entry: Path) -> str:
    """Return the name of the package that a folder of metadata is of."""
    return normal(entry.name.partition("-")[0])


def main() -> None:
    """Do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("gather")
    packing.add_argument("folder", type=Path)
    packing.add_argument("--python", default="3.12", help="version of the machine's Python")
    packing.add_argument("--skip", action="append", default=[], help="package that the machine has, too")
    packing.add_argument("--data", type=Path, help="folder to train on, as `gpu.sh --data` takes it")
    packing.add_argument("--piece", type=int, default=48, help="MiB of a piece")
    laying = commands.add_parser("ready")
    laying.add_argument("folder", type=Path)
    laying.add_argument("work", type=Path)
    asked = parser.parse_args()
    if asked.command == "gather":
        gather(asked.folder, asked.python, asked.skip, asked.data, asked.piece)
    else:
        print(ready(asked.folder.resolve(), asked.work.resolve()))


if __name__ == "__main__":
    main()
