"""Commands of the cloud: `serve`, `status`, `rounds`, `publish`, `enroll`, `revoke`, `keys` and `fsck`; more
in `operate`, `cameras`, `waves`, `maintain`, `people` and `tokens`.

All but `serve` and `fsck` work whether the service runs or not: they read the index, and enter requests there, which a
running service carries out within a second, and a stopped one at its next start.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from culling.cloud import cameras, maintain, operate, people, tokens, waves
from culling.cloud.bring import bring
from culling.cloud.check.cli import add_commands as add_check
from culling.cloud.control.actions import ask
from culling.cloud.control.said import Said
from culling.cloud.labelling.state import UNWANTED
from culling.cloud.operate import AsJson, Camera, ConfigFile, Overrides, ask_and_print, print_table, settings_of, when
from culling.cloud.page import views
from culling.cloud.page.watch import ago
from culling.cloud.service import WHOLE, Role, Service
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index
from culling.cloud.store.objects.places import frame_store
from culling.cloud.store.people.deeds import Deed, Deeds, operator
from culling.cloud.store.roster import Roster
from culling.common import logs
from culling.common.clock import SystemClock
from culling.common.errors import InputError, StorageError
from culling.common.process.console import counted
from culling.common.progress import say

app = typer.Typer(help="Run the service that labels, culls, trains and publishes.", no_args_is_help=True)


@app.command(epilog="Example: culling cloud serve --config /etc/culling/cloud.toml --set schedule.first=16")
def serve(
    role: Annotated[
        list[Role] | None,
        typer.Option(
            help="What this process does; repeat it for several. Roles apart need store.url and store.objects.",
            show_default="ingest, control and page",
        ),
    ] = None,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Run the service until SIGTERM, SIGINT or SIGHUP.

    It can be killed at any moment: acknowledged frames are safe, and an unfinished round continues where it stopped.
    Any number of processes may have a role: of those that are control one is elected, the others stand by.
    """
    settings = settings_of(config, override)
    logs.setup(settings.service.log_level)
    Service(settings, role or WHOLE).run()


@app.command(epilog="Example: culling cloud status --json")
def status(config: ConfigFile = None, as_json: AsJson = False, override: Overrides = None) -> None:
    """Show every camera: its edge, its model, what it saw and forwarded, how many frames wait for a round, and what its
    last 24 hours cost beside full training on all that it saw.
    """
    settings = settings_of(config, override)
    index = Index(settings.store_url)
    rows = views.cameras(index, time.time(), settings)
    endpoint = views.endpoint(settings.data_dir)
    problem = Said(index, settings).problem if endpoint else ""
    if as_json:
        print(json.dumps({"endpoint": endpoint, "labelling_problem": problem, "cameras": rows}, indent=2))
        return
    print(f"service: {f'listens on {endpoint}' if endpoint else 'not running'}")
    if problem:
        print(f"labelling: nothing is labelled: {problem}")
    print_table([_camera_columns(row) for row in rows], "no camera is enrolled yet: run culling cloud enroll")
    for row in rows:
        if told := _round_now(row):
            print(f"{row['camera']}: {told}")
        if row["keeping_up"] and not row["keeping_up"]["enough"]:
            print(f"{row['camera']}: {row['keeping_up']['hint']}")
        if row["shadow"]:
            print(f"{row['camera']}: {row['shadow']['told']}: see `culling cloud waves`")
        for steered in ("pace", "profile"):
            if told := row[steered]:
                since = datetime.fromtimestamp(told["since"], UTC) if told["since"] else None
                print(f"{row['camera']}: {steered} {told['told']}{f', since {since:%m-%d %H:%M}' if since else ''}")
        for output, trouble in row["outputs"].items():
            print(f"edge {row['edge']}: output {output}: {trouble}")
        if row["bill"] and row["bill"]["full"]["frames"]:
            print(f"{row['camera']}: 24 h cost {row['bill']['told']}")


@app.command(epilog="Example: culling cloud rounds north-door --start")
def rounds(
    camera: Annotated[str | None, typer.Argument(help="Name of a camera.", show_default="every camera")] = None,
    start: Annotated[bool, typer.Option("--start", help="Start a round of it, even if few frames wait.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many rounds to show.")] = 20,
    config: ConfigFile = None,
    as_json: AsJson = False,
    override: Overrides = None,
) -> None:
    """Show the newest rounds, or request one."""
    if start and camera is None:
        raise typer.BadParameter("name the camera to start a round of", param_hint="'CAMERA'")
    settings = settings_of(config, override)
    if start and camera is not None:
        ask(Index(settings.store_url), "round", camera, time.time())
        labels = f"with the labels that there are, since {UNWANTED}"
        if settings.labelling.per_day:
            labels = "and what it lacks is labelled"
        print(f"a round of {camera} is requested: it starts once no other round is running, {labels}{when(settings)}")
        return
    index = Index(settings.store_url)
    if camera is not None:
        Roster(index).require(camera)
    found = views.with_progress(views.rounds(index, camera, limit), Said(index, settings))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print_table([_round_columns(row) for row in found], "no round yet")
    for row in found:
        if told := row["reason"] or row.get("verdict"):
            print(f"round {row['id']}: {told}")
        if row.get("bill"):
            print(f"round {row['id']}: cost {row['bill']['told']}")


@app.command(epilog="Example: culling cloud publish north-door student.onnx --scale 0.8")
def publish(
    camera: Camera,
    file: Annotated[Path, typer.Argument(help="FILE.onnx or FILE.safetensors")],
    scale: Annotated[float, typer.Option(min=0.05, max=1.0, help="Input scale to ship with it.")] = 1.0,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Sign a student and make it the camera's live model, without the gate; with `waves.shadow` it has to show beside
    the one in use first that it is not worse. `push` brings one to several cameras, in waves.
    """
    settings = settings_of(config, override)
    artefact = bring(settings, file).artefact(camera, scale)
    ask_and_print(settings, "publish", camera, msgspec.to_builtins(artefact))


@app.command(epilog="Example: culling cloud report --site yard --out report")
def report(
    camera: Annotated[str | None, typer.Argument(help="Name of the camera.", show_default=False)] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(metavar="SITE", help="Instead: a site of the settings, or an edge that none has. Repeatable."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Write a camera's week as one page, plots and tables of it, and a page for each of its rounds.

    A site is one of `sites` in the settings, or an edge that none has: all of its cameras become one page, those
    first that need a person.
    """
    from culling.cloud.page.report import write_report
    from culling.cloud.page.site.week import write_site

    if (camera is None) == (not site):
        raise InputError("name a camera, or a site: --site NAME")
    settings = settings_of(config, override)
    if camera is None:
        index, clock = Index(settings.store_url), SystemClock()
        theirs = sorted(settings.grouping.edges(site or []))
        if lacking := [name for name in site or [] if not settings.grouping.edges([name])]:
            of = settings.grouping.of(lacking[0])
            raise InputError(f"edge {lacking[0]} is of the site {of}: name that")
        file = write_site(index, settings, frame_store(settings, index, clock), theirs, out, clock)
        print(f"wrote {file}")
        return
    files = write_report(Index(settings.store_url), settings, camera, out, time.time())
    print(f"wrote {len(files)} files into {out}: {', '.join(path.name for path in files)}")


@app.command(epilog="Example: culling cloud enroll yard north-door ramp --endpoint tcp://cloud.example:5577 --out kit")
def enroll(
    edge: Annotated[str, typer.Argument(help="Name of the edge.")],
    cameras: Annotated[list[str], typer.Argument(metavar="CAMERA...", help="Names of its cameras.")],
    out: Annotated[Path, typer.Option(help="Folder to write for the edge.")],
    endpoint: Annotated[str | None, typer.Option(help="tcp://HOST:PORT at which the edge reaches the service.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give an enrolled edge a new key, and end its old one.")
    ] = False,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Create an edge's keys, settings and first model; the cloud's own keys are created on first use."""
    from culling.cloud.enroll import Enrollment, endpoint_for_edges
    from culling.cloud.enroll import enroll as enroll_edge

    settings = settings_of(config, override)
    who = Enrollment(edge, tuple(cameras), endpoint_for_edges(settings, endpoint), replace)
    toml = enroll_edge(settings, who, out, SystemClock(), say)
    _note(settings, "edge_enrolled", edge=edge, cameras=cameras, replace=replace)
    print(f"edge {edge} is enrolled; {toml.parent} holds its secret key, settings and first model. Next:")
    print(f"  1. put the address of {' and '.join(cameras)} into {toml}")
    print("  2. copy the folder to the edge, to any place; the agent keeps its state in the folder `state` inside it")
    print("  3. on the edge, in that folder: culling edge check && culling edge run")


@app.command(epilog="Example: culling cloud revoke yard")
def revoke(
    edge: Annotated[str, typer.Argument(help="Name of the edge.")],
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Cut an edge off at once; `enroll --replace` lets it back in with a new key."""
    settings = settings_of(config, override)
    if not Roster(Index(settings.store_url)).revoke(edge):
        raise InputError(f"there is no edge {edge}: see `culling cloud status`")
    _note(settings, "edge_revoked", edge=edge)
    print(f"edge {edge} can no longer connect")


@app.command(epilog="Example: culling cloud keys")
def keys(config: ConfigFile = None, override: Overrides = None) -> None:
    """Print the service's public keys, as an edge's settings take them; missing keys are created."""
    from culling.cloud.store.keys import keys_of

    found = keys_of(settings_of(config, override).service)
    print(f'server_key = "{found.curve_public}"')
    print(f'signing_keys = ["{found.signing_public}"]')


@app.command(epilog="Example: culling cloud fsck --repair")
def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired.")] = False,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Check that index and disk agree; stop the service first. Exit code 7: a finding needs your attention."""
    from culling.cloud.store import fsck as checker

    report = checker.fsck(settings_of(config, override), repair)
    for finding in report.findings:
        print(finding)
    checked = f"{counted(report.frames, 'frame')} and {counted(report.models, 'model')}"
    print(f"checked {checked}; {counted(len(report.findings), 'finding')}")
    if report.open:
        raise StorageError(f"{len(report.open)} findings need your attention: see above")


def _note(settings: CloudSettings, action: str, **what: Any) -> None:
    """Enter what was done, by who runs this process."""
    Deeds(Index(settings.store_url)).add(Deed(operator(), action, what=what), time.time())


def _camera_columns(row: dict[str, Any]) -> dict[str, str]:
    """The columns of a camera that fit a terminal."""
    model = f"{row['model'] or '-'}{' (provisional)' if row['provisional'] else ''}"
    rate = "" if row["rate"] is None else f" ({row['rate']:.1%} now)"
    heard = "" if row["state"] in ("live", "revoked") else f", heard {ago(row['silent_s'])}"
    pending = f", offered {row['live']}" if row["live"] not in (None, row["model"]) else ""
    return {
        "camera": row["camera"],
        "edge": row["edge"],
        "state": f"{row['state']}{heard}",
        "model": f"{model}{pending}",
        "forwarded": f"{row['forwarded']}{rate}",
        "keeping up": row["keeping_up"]["told"] if row["keeping_up"] else "-",
        "AP50": "; ".join([_measured(row["accuracy"]), *row["worse"]]),
        "waiting": f"{row['waiting']} of {row['stored']}",
    }


def _round_now(row: dict[str, Any]) -> str:
    """What a camera's round does, else what its next one waits for; "" for a revoked camera."""
    if row["round"]:
        return str(row["round"]["told"])
    if row["state"] == "revoked":
        return ""
    few = f"; {row['judges']} of {row['judges_needed']} judges" if row["judges"] < row["judges_needed"] else ""
    return f"{row['next_round']['told'] if row['next_round'] else 'due'}{few}"


def _measured(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None:
        return "too few audits"
    if (ap50 := accuracy["ap50"]) is None:
        return "nothing seen"
    return f"{ap50['value']:.2f} ({ap50['low']:.2f} to {ap50['high']:.2f})"


def _round_columns(row: dict[str, Any]) -> dict[str, str]:
    """The columns of a round that fit a terminal."""
    started = datetime.fromtimestamp(row["started"], UTC).strftime("%m-%d %H:%M")
    judged = f"{row['map_before']:.3f} → {row['map_after']:.3f}" if "map_after" in row else ""
    if row.get("gain_low") is not None:
        judged += f", {row['gain_low']:+.3f} or more"
    state = row["running"]["told"] if row["running"] else row["state"]
    if row.get("provisional") and row["state"] == "published":
        state += ", provisional"
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


add_check(app)
operate.add_commands(app)
cameras.add_commands(app)
waves.add_commands(app)
maintain.add_commands(app)
people.add_commands(app)
tokens.add_commands(app)
