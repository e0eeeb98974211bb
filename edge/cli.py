"""The commands of an edge: `run` an agent, `check` all it needs, `reload` one, `install` a model, show its `status`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from culling.common import logs
from culling.common.config import parse_overrides, settings_file
from culling.common.process.checks import print_all
from culling.common.process.keeping_up import KeepingUp
from culling.common.wire.transport import new_keypair
from culling.edge.agent import Agent
from culling.edge.check import check_all
from culling.edge.model.install import install as bring
from culling.edge.reload import ask
from culling.edge.settings import EdgeSettings, load_settings
from culling.edge.spool.forwarder import INCOMPATIBLE, REFUSED
from culling.edge.status import fetch, outputs, pace, rows

app = typer.Typer(help="Run the agent beside the cameras.", no_args_is_help=True, pretty_exceptions_enable=False)

LOOK_S = 2.0
"""How far apart the two looks are that tell what a student takes in a second."""

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file, as `culling cloud enroll` writes it.",
        show_default=f"the first of {', '.join(map(str, EdgeSettings.searched))}",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting, e.g. agent.drain_s=5; `culling settings edge` lists them; lists as JSON; repeatable.",
    ),
]

AllowCpu = Annotated[bool | None, typer.Option("--allow-cpu/--no-allow-cpu", help="Let the student run without a GPU.")]


@app.command(epilog="Example: culling edge run --config kit/edge.toml --allow-cpu")
def run(
    config: ConfigFile = None,
    allow_cpu: AllowCpu = None,
    override: Overrides = None,
) -> None:
    """Run the agent until a signal stops it.

    On SIGTERM or SIGINT the cameras stop, queued frames go to disk, and what the cloud takes within agent.drain_s is
    sent; exit code 0. A second signal ends the agent at once with 128 + its number. SIGHUP, or `culling edge reload`,
    makes it read the cameras and outputs of its settings again. Exit code 5: no provider or model works; 7: the state
    folder cannot be used, or another agent uses it; `culling --help` lists the others.
    """
    overrides = {"agent.allow_cpu": allow_cpu, **parse_overrides(override)}
    file = settings_file(EdgeSettings, config)
    settings = load_settings(file, overrides)
    logs.setup(settings.agent.log_level)
    Agent(settings, load=lambda: load_settings(file, overrides), file=file).run()


@app.command(epilog="Example: culling edge reload --config /var/lib/culling-edge/edge.toml")
def reload(config: ConfigFile = None, override: Overrides = None) -> None:
    """Have a running agent take the cameras and outputs of its settings as they are now; the others go on.

    The settings are checked first, and a wrong one changes nothing. Other sections are read when an agent starts.
    """
    settings = load_settings(settings_file(EdgeSettings, config), parse_overrides(override))
    print(ask(settings.agent.state_dir))


@app.command(epilog="Example: culling edge check --config kit/edge.toml --allow-cpu")
def check(config: ConfigFile = None, allow_cpu: AllowCpu = None, override: Overrides = None) -> None:
    """Try everything that the agent needs, one line each; exit with the code of the first failure."""
    file = settings_file(EdgeSettings, config)
    settings = load_settings(file, {"agent.allow_cpu": allow_cpu, **parse_overrides(override)})
    print(f"ok      settings: {file or 'CULLING_* variables'}")
    raise typer.Exit(print_all(check_all(settings)))


@app.command(epilog="Example: culling edge install /media/stick/north-door-7.manifest")
def install(
    manifest: Annotated[Path, typer.Argument(help="Signed manifest, as `culling cloud export-model` writes it.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="Its ONNX file.", show_default="beside it, of the same name")
    ] = None,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Bring a model to an edge that has no line to its cloud, e.g. from a USB stick.

    The rules are those for models from the cloud: signature, camera, counter, hash, golden frames, classes, probation.
    A running agent swaps it between two frames; another takes it when it starts. Exit code 5: it must not run here.
    """
    settings = load_settings(settings_file(EdgeSettings, config), parse_overrides(override))
    print(bring(settings, manifest, model, print))


@app.command(epilog="Example: culling edge status --json")
def status(
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    override: Overrides = None,
) -> None:
    """Show the counters of a running agent, per camera, and in two seconds whether its student keeps up."""
    settings = load_settings(settings_file(EdgeSettings, config), parse_overrides(override))
    before = fetch(settings.metrics.host, settings.metrics.port)
    began = time.monotonic()
    time.sleep(LOOK_S)
    after = fetch(settings.metrics.host, settings.metrics.port)
    kept = pace(before, after, time.monotonic() - began)
    found = [{**row, "keeping up": _kept(kept[str(row["camera"])])} for row in rows(after)]
    out = outputs(after)
    if as_json:
        print(json.dumps([{**row, "outputs": out} for row in found], indent=2))
        return
    table = Table("camera", *(str(row["camera"]) for row in found), box=None)
    for name in list(found[0])[1:] if found else ():
        table.add_row(name, *("-" if row[name] is None else str(row[name]) for row in found))
    Console().print(table)
    for row in out:
        print("output {output}: {state}, {sent} sent, {waiting} waiting, {dropped} dropped".format(**row))
    for camera, one in kept.items():
        if one is not None and one.hint:
            print(f"camera {camera}: {one.hint}")
    for word, told in (("refused", REFUSED), ("incompatible", INCOMPATIBLE)):
        if any(row["cloud"] == word for row in found):
            print(told)


def _kept(found: KeepingUp | None) -> str | None:
    return None if found is None else found.rates


@app.command(epilog="Example: culling edge keypair")
def keypair() -> None:
    """Print a new pair of CURVE keys, for an output of kind zmq or one of its readers."""
    public, secret = new_keypair()
    print(f"public {public}\nsecret {secret}")
