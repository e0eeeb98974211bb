"""Commands of the cloud: `serve`, `status`, `rounds`, `publish`, `enroll`, `revoke`, `keys` and `fsck`; see `operate`.

All but `serve` and `fsck` work whether the service runs or not: they read the index, and what they want done they enter
there as a request, which a running service takes within a second, and one that is down at its next start.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from culling.cloud import maintain, operate
from culling.cloud.control.actions import ask
from culling.cloud.operate import AsJson, Camera, ConfigFile, Overrides, ask_and_print, print_table, when
from culling.cloud.page import views
from culling.cloud.page.watch import ago
from culling.cloud.service import Service
from culling.cloud.settings import CloudSettings, load_settings
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.index import Index
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.registry import Artefact, ModelFiles
from culling.cloud.store.roster import Roster
from culling.common import logs
from culling.common.clock import SystemClock
from culling.common.config import parse_overrides
from culling.common.errors import InputError, ModelError, StorageError
from culling.common.frame import CLASSES
from culling.common.wire.manifest import Golden

if TYPE_CHECKING:
    from culling.common.graph import Graph

app = typer.Typer(help="Run the service that labels, culls, trains and publishes.", no_args_is_help=True)


@app.command()
def serve(config: ConfigFile = None, override: Overrides = None) -> None:
    """Run the service until SIGTERM, SIGINT or SIGHUP.

    It can be killed at any moment: frames that were acknowledged are safe, and a round goes on where it was.
    """
    settings = load_settings(config, parse_overrides(override))
    logs.setup(settings.service.log_level)
    Service(settings).run()


@app.command()
def status(config: ConfigFile = None, as_json: AsJson = False, override: Overrides = None) -> None:
    """Show every camera: its edge, its model, what it saw and forwarded, and what waits for a round."""
    settings = load_settings(config, parse_overrides(override))
    rows = views.cameras(Index(settings.store_url), time.time())
    endpoint = views.endpoint(settings.data_dir)
    if as_json:
        print(json.dumps({"endpoint": endpoint, "cameras": rows}, indent=2))
        return
    print(f"service: {f'listens on {endpoint}' if endpoint else 'not running'}")
    print_table([_camera_columns(row) for row in rows], "no camera is enrolled yet: culling cloud enroll")


@app.command()
def rounds(
    config: ConfigFile = None,
    camera: Annotated[str | None, typer.Option(help="Only this camera's rounds.")] = None,
    start: Annotated[str | None, typer.Option(help="Ask for a round of this camera, whatever waits.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
    override: Overrides = None,
) -> None:
    """Show the newest rounds, or ask for one."""
    settings = load_settings(config, parse_overrides(override))
    if start is not None:
        ask(Index(settings.store_url), "round", start, time.time())
        print(f"asked for a round of {start}: it starts once no other round runs{when(settings)}")
        return
    index = Index(settings.store_url)
    if camera is not None:
        Roster(index).require(camera)
    found = views.rounds(index, camera, limit)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print_table([_round_columns(row) for row in found], "no round yet")
    for row in found:
        if row["reason"]:
            print(f"round {row['id']}: {row['reason']}")


@app.command()
def publish(
    camera: Camera,
    file: Annotated[Path, typer.Argument(help="FILE.onnx or FILE.safetensors")],
    scale: Annotated[float, typer.Option(min=0.05, max=1.0, help="Input scale to ship with it.")] = 1.0,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Sign a student and make it the camera's live model, without a gate."""
    settings = load_settings(config, parse_overrides(override))
    artefact = _artefact(settings, camera, file, scale)
    ask_and_print(settings, "publish", camera, msgspec.to_builtins(artefact))


@app.command()
def report(
    camera: Camera,
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Write plots and tables of a camera to keep, and a page of each of its rounds."""
    from culling.cloud.page.report import write_report

    settings = load_settings(config, parse_overrides(override))
    files = write_report(Index(settings.store_url), camera, out, time.time())
    print(f"wrote {len(files)} files into {out}: {', '.join(path.name for path in files)}")


@app.command()
def enroll(
    name: Annotated[str, typer.Argument(help="Name of the edge.")],
    camera: Annotated[list[str], typer.Option(help="Name of a camera; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder to write for the edge.")],
    endpoint: Annotated[str | None, typer.Option(help="tcp://HOST:PORT at which the edge reaches the service.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give a known edge a new key, ending its old one.")
    ] = False,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Make an edge's keys, settings and first model; the cloud's own keys are made on first use."""
    from culling.cloud.enroll import Enrolment, endpoint_for_edges
    from culling.cloud.enroll import enroll as enrol_edge

    settings = load_settings(config, parse_overrides(override))
    who = Enrolment(name, tuple(camera), endpoint_for_edges(settings, endpoint), replace)
    toml = enrol_edge(settings, who, out, SystemClock())
    print(f"edge {name} is enrolled; {toml.parent} holds its secret key, settings and first model. Next:")
    print(f"  1. put the address of {' and '.join(camera)} into {toml}")
    print("  2. carry the folder to the edge; it works wherever it lies, and what the agent keeps lies in its `state`")
    print("  3. in the folder, there: culling edge check --config edge.toml && culling edge run --config edge.toml")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name of the edge.")],
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Let an edge connect no more, at once; `enroll --replace` takes it back with a new key."""
    settings = load_settings(config, parse_overrides(override))
    if not Roster(Index(settings.store_url)).revoke(name):
        raise InputError(f"there is no edge {name}: see `culling cloud status`")
    print(f"edge {name} may connect no more")


@app.command()
def keys(config: ConfigFile = None, override: Overrides = None) -> None:
    """Print the public halves of the service's keys as edges are told them; they are made where there are none."""
    from culling.cloud.store.keys import load_keys

    found = load_keys(load_settings(config, parse_overrides(override)).data_dir)
    print(f'server_key = "{found.curve_public}"')
    print(f'signing_keys = ["{found.signing_public}"]')


@app.command()
def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be.")] = False,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Check that index and disk agree, with the service stopped; exit code 7 when somebody has to see to something."""
    from culling.cloud.store import fsck as checker

    report = checker.fsck(load_settings(config, parse_overrides(override)), repair)
    for finding in report.findings:
        print(finding)
    print(f"looked at {report.frames} frames and {report.models} models; {len(report.findings)} findings")
    if report.open:
        raise StorageError(f"{len(report.open)} findings are not mended: see above")


def _artefact(settings: CloudSettings, camera: str, file: Path, scale: float) -> Artefact:
    """Return `file` as something to publish; weights are exported. Raises ModelError when it is no student."""
    from culling.common.graph import open_graph

    files = ModelFiles(settings.data_dir / "models")
    try:
        data, weights = file.read_bytes(), None
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from None
    if file.suffix == ".safetensors":
        from culling.cloud.model.refit import export_refillable
        from culling.cloud.model.weights import load_student

        model, classes = load_student(file)
        weights, data = files.add(data, "safetensors"), export_refillable(model, classes)
    try:
        graph = open_graph(data, provider="cpu")
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    if graph.info.classes != CLASSES:
        raise ModelError(f"{file}: finds {', '.join(graph.info.classes)}; expected {', '.join(CLASSES)}")
    return Artefact(
        sha256=files.add(data, "onnx"),
        size=len(data),
        weights=weights,
        scale=scale,
        long_side=settings.student.long_side,
        classes=graph.info.classes,
        parent=None,
        golden=_golden(settings, camera, graph, scale),
    )


def _golden(settings: CloudSettings, camera: str, graph: Graph, scale: float) -> tuple[Golden, ...]:
    """Return what `graph` finds in the camera's newest held-out frame; nothing while it has none."""
    from culling.cloud.model.golden import golden_frame, newest_picture

    index, clock = Index(settings.store_url), SystemClock()
    store = FrameStore(index, settings.data_dir / "frames", clock)
    image = newest_picture(store, FrameLifecycle(index, store, clock), camera)
    return () if image is None else (golden_frame(graph, image, scale, settings.student.long_side),)


def _camera_columns(row: dict[str, Any]) -> dict[str, str]:
    """The columns of a camera that fit a terminal."""
    model = row["model"] or "-"
    rate = "-" if row["rate"] is None else f"{row['rate']:.1%}"
    to_be = f", to be {row['live']}" if row["live"] not in (None, row["model"]) else ""
    return {
        "camera": row["camera"],
        "edge": row["edge"],
        "state": row["state"],
        "last seen": ago(row["silent_s"]),
        "model": f"{model}{to_be}",
        "seen": str(row["seen"]),
        "forwarded": str(row["forwarded"]),
        "now": rate,
        "loss": "" if row["loss"] is None else f"{row['loss']:.2f}",
        "waiting": f"{row['waiting']} of {row['stored']}",
    }


def _round_columns(row: dict[str, Any]) -> dict[str, str]:
    """The columns of a round that fit a terminal."""
    started = datetime.fromtimestamp(row["started"], UTC).strftime("%m-%d %H:%M")
    judged = f"{row['map_before']:.3f} → {row['map_after']:.3f}" if "map_after" in row else ""
    state = f"after {row['stage']}" if row["state"] == "running" and row["stage"] else row["state"]
    return {
        "id": str(row["id"]),
        "camera": row["camera"],
        "started": started,
        "trigger": row["trigger"],
        "state": state,
        "kept": f"{row['kept']} of {row['labelled']}" if row.get("kept") else "",
        "scale": f"{row['scale']:.2f}" if "scale" in row else "",
        "AP50": judged,
        "swap": row["swap"] or "",
    }


operate.add_commands(app)
maintain.add_commands(app)
