"""How close the cloud runs to its limits: `culling bench student`, `ingest`, `teacher`, `train` and `memory cloud`.

culling bench student           the exported student, against torchvision's stock detector exported as it is
culling bench ingest            durable frames/s of a real service, against a bare socket and a bare disk
culling bench teacher           images/s labelled, against the same model's bare forward
culling bench train             images/s trained on, against the same model's bare forward and backward
culling bench memory cloud      what a hundred further edges cost
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import torch
import typer
from numpy.typing import NDArray
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from culling.cloud.bench.crowd import BareDisk, Crowd, acked_by_service, bare_socket, frames, service
from culling.cloud.model.dataset import Batcher, Sample
from culling.cloud.model.detector import freeze, half_precision
from culling.cloud.model.export import export_student, run_torch
from culling.cloud.model.losses import detection_loss
from culling.cloud.model.teacher import Teacher
from culling.cloud.model.train import Recipe, train
from culling.cloud.model.weights import Kind, load_bundled, load_weights
from culling.cloud.settings import RoundSettings, TeacherSettings
from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, Rounds, Stated, at_least, at_most
from culling.common.errors import CameraError, InputError
from culling.common.graph import PROVIDERS, Provider, to_frame
from culling.common.scaler import input_size, resize
from culling.common.video import BUNDLED_CLIP, count_frames, read_frames
from culling.common.wire.codec import encode_jpeg

WARM = 2
MEGABYTE = 1e6
STOCK_CLASSES = 91
"""What torchvision's detectors tell apart, background included."""

Video = Annotated[Path, typer.Option(help="video whose frames are used", show_default="the clip that comes along")]
Weights = Annotated[Path | None, typer.Option("--model", help="weights", show_default="the bundled ones")]
Folder = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="a folder on the disk that is measured",
        show_default="the system's temporary one",
    ),
]
Picture = NDArray[np.uint8]

student_app, ingest_app, teacher_app, train_app, memory_app = (typer.Typer(add_completion=False) for _ in range(5))


@student_app.command(name="student")
def student_command(
    video: Video = BUNDLED_CLIP,
    model: Annotated[
        Path | None, typer.Option(help="student as ONNX", show_default="the bundled one, exported first")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="frames a side and round")] = 20,
    threads: Annotated[int, typer.Option(min=0, help="threads of an operator, 0 leaves it to onnxruntime")] = 0,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Frames/s of the exported student, against torchvision's stock Faster R-CNN of the same trunk, exported as it is.

    Stock means ResNet-18-FPN with every default, dynamo=False. It enlarges what it is given to a short side of 800; so
    it is measured once more, told to leave the input's size alone.
    """
    pictures = _inputs(video, frames)
    height, width = pictures[0].shape[:2]
    data = export_student(*load_bundled("student")) if model is None else _read(model)
    stocks = [export_stock(height, width), export_stock(height, width, min_size=height, max_size=width)]
    unit = "frames/s"
    provider = _provider()
    ours = speed(data, "frames", [picture[None] for picture in pictures], provider, threads)
    floats = [np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / 255 for picture in pictures]
    student, *others = bench.in_turn(rounds, ours, *(speed(one, "image", floats, provider, threads) for one in stocks))
    mine = Measured(f"the exported student on {width} x {height}", unit, student)
    names = ("stock, every default", "stock, size kept")
    comparisons = tuple(
        Comparison(name, mine, Measured(f"torchvision's export, {name}", unit, other), at_least(3.0))
        for name, other in zip(names, others, strict=True)
    )
    notes = (
        "What both reach after the same training is in tests/bench/README.md. The stock's weights are random and find "
        "nothing, which spares it most of its last suppression.",
    )
    bench.print_report(Report("student", comparisons, (), notes, bench.machine(provider)), as_json)


@ingest_app.command(name="ingest")
def ingest_command(
    edges: Annotated[int, typer.Option(min=2, help="how many edges to hold beside a single one")] = 200,
    count: Annotated[int, typer.Option("--frames", min=1, help="frames a side and round")] = 600,
    size: Annotated[int, typer.Option(min=2000, help="bytes of a frame")] = 100_000,
    folder: Folder = None,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Durable frames/s of a real service with CURVE on, against a bare CURVE socket and bare fsynced SQLite commits.

    The reference is the smaller of the two in each round. Every side gets the same frames at the same window.
    """
    with TemporaryDirectory(prefix="culling-bench-", dir=folder) as name:
        found = ingest_speeds(Path(name), (1, edges), count, size, rounds)
    unit = "frames/s"
    disk = Measured("SQLite commits, WAL, synchronous=FULL", unit, found["disk"])
    comparisons, stated = [], [Stated(disk)]
    for number in (1, edges):
        who = "1 edge" if number == 1 else f"{number} edges"
        socket = Measured(f"a bare CURVE socket, {who}", unit, found[f"socket {number}"])
        smaller = tuple(map(min, socket.values, disk.values))
        reference = Measured("the smaller of the bare socket and the bare disk", unit, smaller)
        ours = Measured(f"the service, {who}", unit, found[f"service {number}"])
        comparisons.append(Comparison(who, ours, reference, at_least(0.5)))
        stated.append(Stated(socket))
    bench.print_report(Report("ingest", tuple(comparisons), tuple(stated), machine=bench.machine("none")), as_json)


@teacher_app.command(name="teacher")
def teacher_command(
    video: Video = BUNDLED_CLIP,
    model: Weights = None,
    frames: Annotated[int, typer.Option(min=1, help="frames a side and round")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="frames at a time")] = TeacherSettings().batch,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Images/s labelled by the teacher, from whole frames, against its bare forward on inputs prepared before."""
    detector = _detector("teacher", model)
    teacher = Teacher(detector, TeacherSettings().short_side, batch)
    pictures = _pictures(video, frames)
    sides = bench.in_turn(
        rounds, partial(label_speed, teacher, pictures), bare_forward(detector, teacher, pictures, batch)
    )
    _print_images("teacher", "frames labelled", "the bare forward", sides, as_json)


@train_app.command(name="train")
def train_command(
    video: Video = BUNDLED_CLIP,
    model: Weights = None,
    steps: Annotated[int, typer.Option(min=1, help="steps a side and round")] = 20,
    batch: Annotated[int, typer.Option(min=1, help="images a step")] = RoundSettings().batch,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Images/s of the training loop as rounds run it, against bare forward and backward on batches made before."""
    pictures = _pictures(video, 2 * batch)
    batches = _batches(_detector("student", model), pictures, batch)
    sides = bench.in_turn(
        rounds,
        lambda: train_speed(_detector("student", model), batches, steps),
        lambda: bare_training(_detector("student", model), batches, steps),
    )
    _print_images("train", "images trained on", "the bare forward and backward", sides, as_json)


@memory_app.command(name="cloud")
def memory_command(
    edges: Annotated[int, typer.Option(min=1, help="edges that join at a time")] = 100,
    count: Annotated[int, typer.Option("--frames", min=1, help="frames they send whenever memory is read")] = 400,
    size: Annotated[int, typer.Option(min=2000, help="bytes of a frame")] = 100_000,
    folder: Folder = None,
    rounds: Rounds = 1,
    as_json: Json = False,
) -> None:
    """Memory of the service for each hundred further edges, and whether it stays the same over further frames."""
    readings = []
    for _ in range(rounds):
        with TemporaryDirectory(prefix="culling-bench-", dir=folder) as name:
            readings.append(service_memory(Path(name), edges, count, size))
    start, first, second, later = (tuple(values) for values in zip(*readings, strict=True))
    flat = Comparison(
        f"{2 * edges} edges over time",
        Measured(f"resident after {3 * count} further frames", "MB", later),
        Measured(f"resident after {count} frames", "MB", second),
        at_most(1.05),
    )
    further = tuple(100 * (high - low) / edges for low, high in zip(first, second, strict=True))
    stated = [
        Stated(Measured(what, "MB", values))
        for what, values in (("no edge", start), (f"{edges} edges", first), ("each hundred further edges", further))
    ]
    bench.print_report(Report("memory cloud", (flat,), tuple(stated), machine=bench.machine("none")), as_json)


# The sides


def speed(
    model: bytes, name: str, inputs: Sequence[NDArray[Any]], provider: Provider, threads: int
) -> Callable[[], float]:
    """Return what measures frames/s of a bare loop of session.run; `name` is the model's input."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # the stock's shapes are only known when it runs, of which every node warns
    session: Any = ort.InferenceSession(model, options, providers=[PROVIDERS[provider]])

    def run() -> float:
        for one in inputs[:WARM]:
            session.run(None, {name: one})
        started = time.perf_counter()
        for one in inputs:
            session.run(None, {name: one})
        return len(inputs) / (time.perf_counter() - started)

    return run


def export_stock(height: int, width: int, **sizes: int) -> bytes:
    """Return torchvision's Faster R-CNN with a ResNet-18-FPN, defaults but `sizes`, as its own export makes it."""
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    model = FasterRCNN(backbone, num_classes=STOCK_CLASSES, **sizes).eval()
    nn.init.zeros_(
        model.roi_heads.box_predictor.cls_score.weight
    )  # no class is likely: what random ones find is chance
    example = ([torch.rand(3, height, width)],)
    with TemporaryDirectory(prefix="culling-bench-") as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of shapes that become constants, which is how the stock is exported
        out = Path(folder) / "stock.onnx"
        torch.onnx.export(model, example, out, input_names=["image"], dynamo=False)
        return out.read_bytes()


def ingest_speeds(
    folder: Path, crowds: Sequence[int], count: int, size: int, rounds: int
) -> dict[str, tuple[float, ...]]:
    """Return frames/s by "disk", and by "service N" and "socket N" for each crowd of N edges, in every round."""
    with ExitStack() as life:
        served = life.enter_context(service(folder, sum(crowds)))
        address, key = life.enter_context(bare_socket())
        disk = life.enter_context(BareDisk(folder))
        secrets = iter(served.secrets.items())
        sides: dict[str, Callable[[], float]] = {"disk": partial(disk.commit, count, size)}
        for edges in crowds:
            mine = dict(islice(secrets, edges))
            linked = life.enter_context(Crowd(served.endpoint, served.server_key, mine, acked_by_service))
            linked.greet()
            bare = life.enter_context(Crowd(address, key, mine, lambda _: True))
            bare.deliver(frames(bare.cameras, edges, size))  # connects them
            sides[f"service {edges}"] = partial(_deliver, linked, count, size)
            sides[f"socket {edges}"] = partial(_deliver, bare, count, size)
        return dict(zip(sides, bench.in_turn(rounds, *sides.values()), strict=True))


def _deliver(crowd: Crowd, count: int, size: int) -> float:
    return crowd.deliver(frames(crowd.cameras, count, size))


def service_memory(folder: Path, edges: int, count: int, size: int) -> tuple[float, float, float, float]:
    """Return MB resident of a service: with no edge, with `edges`, with twice as many, and with those later on.

    `count` frames are sent before memory is read, three times as many before the last.
    """
    with ExitStack() as life:
        served = life.enter_context(service(folder, 2 * edges))
        found = [bench.resident(served.pid)]
        secrets = iter(served.secrets.items())
        crowds: list[Crowd] = []
        for _ in range(2):
            mine = dict(islice(secrets, edges))
            crowds.append(life.enter_context(Crowd(served.endpoint, served.server_key, mine, acked_by_service)))
            crowds[-1].greet()
            _deliver(crowds[-1], count, size)
            found.append(bench.resident(served.pid))
        for _ in range(3):
            _deliver(crowds[0], count, size)
        found.append(bench.resident(served.pid))
    start, first, second, later = (size / MEGABYTE for size in found)
    return start, first, second, later


def label_speed(teacher: Teacher, pictures: Sequence[Picture]) -> float:
    """Return images/s of the teacher as rounds use it."""
    started = time.perf_counter()
    teacher.label(pictures)
    return len(pictures) / (time.perf_counter() - started)


def bare_forward(model: FasterRCNN, teacher: Teacher, pictures: Sequence[Picture], batch: int) -> Callable[[], float]:
    """Return what measures images/s of `model` alone, on the inputs and in the batches that `teacher` gives it."""
    device = next(model.parameters()).device
    inputs = [resize(picture, *teacher.input_size(*picture.shape[:2])) for picture in pictures]
    images = [torch.from_numpy(one).permute(2, 0, 1).float().to(device) / 255 for one in inputs]
    batches = [images[start : start + batch] for start in range(0, len(images), batch)]

    def run() -> float:
        started = time.perf_counter()
        with torch.inference_mode(), half_precision(device):
            for one in batches:
                model(one)
        _wait(device)
        return len(images) / (time.perf_counter() - started)

    return run


def train_speed(model: FasterRCNN, batches: Batcher, steps: int) -> float:
    """Return images/s of the training loop, its last checkpoint included."""
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        started = time.perf_counter()
        train(model, batches, Recipe(steps, lr=1e-4), Path(folder) / "checkpoint")
        return steps * batches.batch / (time.perf_counter() - started)


def bare_training(model: FasterRCNN, batches: Batcher, steps: int) -> float:
    """Return images/s of forward and backward alone, on the same batches, made before."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device, memory_format=torch.channels_last).train()
    made = [batches(step) for step in range(steps)]
    placed = [
        (images.to(device, memory_format=torch.channels_last), [target.to(device) for target in targets])
        for images, targets in made
    ]
    started = time.perf_counter()
    for images, targets in placed:
        with half_precision(device):
            losses = detection_loss(model, images, targets)
        model.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
    _wait(device)
    return steps * batches.batch / (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# What is measured on


def _batches(model: FasterRCNN, pictures: Sequence[Picture], batch: int) -> Batcher:
    """Return batches of `pictures` as a round makes them, labelled by `model` itself."""
    samples = []
    for picture in pictures:
        height, width = picture.shape[:2]
        size = input_size(width, height)
        [found] = run_torch(model, resize(picture, *size)[None])
        samples.append(Sample(encode_jpeg(picture), width, height, to_frame(found, size, (height, width)), "bench"))
    return Batcher(samples, batch, [size])


def _detector(kind: Kind, path: Path | None) -> FasterRCNN:
    model, _ = load_bundled(kind) if path is None else load_weights(path)
    freeze(model, RoundSettings().frozen)
    return model


def _pictures(video: Path, count: int) -> list[Picture]:
    """Return `count` frames spread over a video, over again where it is shorter. Raises `CameraError`."""
    total = count_frames(video)
    wanted = [number * total // count for number in range(count)]
    found = dict(read_frames(video, wanted))
    if not found:
        raise CameraError(f"{video}: there is no picture in it")
    decoded = list(found.values())
    return [decoded[number % len(decoded)] for number in range(count)]


def _inputs(video: Path, count: int) -> list[Picture]:
    """Return the same as a student's inputs."""
    pictures = _pictures(video, count)
    size = input_size(pictures[0].shape[1], pictures[0].shape[0])
    return [resize(picture, *size) for picture in pictures]


def _provider() -> Provider:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _print_images(name: str, ours: str, reference: str, sides: Sequence[tuple[float, ...]], as_json: bool) -> None:
    mine, bare = sides
    comparison = Comparison(
        name, Measured(ours, "images/s", mine), Measured(reference, "images/s", bare), at_least(0.9)
    )
    bench.print_report(Report(name, (comparison,), machine=bench.machine(_provider())), as_json)
