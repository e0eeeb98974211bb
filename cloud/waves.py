"""`culling cloud push` and `culling cloud waves`: a student for several cameras, and what it has shown there so far."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from culling.cloud.bring import bring
from culling.cloud.control.waves.order import wave_of
from culling.cloud.operate import AsJson, ConfigFile, Overrides, print_table, settings_of, when
from culling.cloud.settings import CloudSettings
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.index import Index
from culling.cloud.store.people.deeds import operator
from culling.cloud.store.roster import Roster
from culling.cloud.store.waves.alike import uses
from culling.cloud.store.waves.trials import OPEN, UNDER_WAY, Plan, Rollout, RolloutState, Trial, Trials
from culling.common.errors import InputError, SettingsError
from culling.common.process.console import counted

SHOWN = 50
"""Rollouts, and trials of single cameras, that are shown, the newest ones."""

SHOWN_STATES = ("passed", "failed", "back", "left", "under way", "waiting")

app = typer.Typer(help="Show, halt, resume and take back what reaches cameras in waves.", invoke_without_command=True)

Number = Annotated[int, typer.Argument(metavar="ROLLOUT", help="Its number, as `culling cloud waves` shows it.")]


def add_commands(parent: typer.Typer) -> None:
    """Add both to the commands of `culling cloud`."""
    parent.command(epilog="Example: culling cloud push student.safetensors --site yard")(push)
    parent.add_typer(app, name="waves")


def push(
    file: Annotated[Path, typer.Argument(help="FILE.onnx or FILE.safetensors")],
    cameras: Annotated[list[str] | None, typer.Argument(metavar="[CAMERA...]", help="Names of cameras.")] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(metavar="SITE", help="Instead: every camera of a site, or of an edge that none has. Repeatable."),
    ] = None,
    scale: Annotated[float, typer.Option(min=0.05, max=1.0, help="Input scale to ship with it.")] = 1.0,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Bring a student to several cameras in waves (`waves.waves`): the next gets it once the one before passed."""
    if bool(cameras) == bool(site):
        raise InputError("name cameras, or a site: --site NAME" + ", not both" * bool(site))
    settings = settings_of(config, override)
    index = Index(settings.store_url)
    names = _named(settings, index, cameras or [], site or [])
    brought = bring(settings, file)
    names, running = _in_use(index, names, brought.sha256, scale)
    if running:
        print(f"{file.name} is already in use on {', '.join(running)}: nothing to try there")
    if not names:
        return
    students = {camera: brought.artefact(camera, scale) for camera in names}
    waves, rate = settings.waves.waves, settings.waves.max_failure_rate
    plan = Plan(file.name, students, wave_of(names, waves), waves, rate)
    number = Trials(index).begin(plan, operator(), time.time())
    sizes = Counter(plan.wave_of.values())
    told = ", then ".join(str(sizes[wave]) for wave in sorted(sizes))
    print(f"rollout {number}: {file.name} reaches {told} of {counted(len(names), 'camera')}{when(settings)}")


@app.callback(epilog="Example: culling cloud waves")
def show(
    context: typer.Context, config: ConfigFile = None, as_json: AsJson = False, override: Overrides = None
) -> None:
    """Show rollouts, and students that had to show at a camera that they are not worse: how far they got, and why."""
    if (below := context.invoked_subcommand) is not None:
        _refuse_before(below, {"--config": config is not None, "--set": bool(override), "--json": as_json})
        return
    found = Trials(Index(settings_of(config, override).store_url))
    rollouts, trials = found.rollouts()[-SHOWN:], [one for one in found.trials(limit=SHOWN) if one.rollout is None]
    of = {one.id: found.trials(rollout=one.id) for one in rollouts}
    if as_json:
        told = [asdict(one) | {"cameras": [_told(trial) for trial in of[one.id]]} for one in rollouts]
        print(json.dumps({"rollouts": told, "shadows": [_told(one) for one in trials]}, indent=2))
        return
    print_table([_columns(one, of[one.id]) for one in rollouts], "no student was pushed to several cameras yet")
    for one in rollouts:
        if one.why:
            print(f"rollout {one.id}: {one.why}")
    for line in _lines([trial for one in rollouts for trial in of[one.id]] + trials):
        print(line)


@app.command(epilog="Example: culling cloud waves halt 3")
def halt(number: Number, config: ConfigFile = None, override: Overrides = None) -> None:
    """Let no further camera have a student: what runs beside another one stays there, and takes no place."""
    _turn(settings_of(config, override), number, ("running",), "halted", "halt")


@app.command(epilog="Example: culling cloud waves resume 3")
def resume(number: Number, config: ConfigFile = None, override: Overrides = None) -> None:
    """Go on with what was halted; failures until now count no more."""
    _turn(settings_of(config, override), number, ("halted",), "running", "resume")


@app.command(epilog="Example: culling cloud waves rollback 3")
def rollback(number: Number, config: ConfigFile = None, override: Overrides = None) -> None:
    """Take a student back from every camera that still runs it, and end its rollout."""
    _turn(settings_of(config, override), number, ("running", "halted", "done"), "back", "rollback")


def _refuse_before(below: str, given: Mapping[str, bool]) -> None:
    """Refuse options of the group before a command of it, which would not have them, and act on another service."""
    for option, is_given in given.items():
        if is_given:
            raise SettingsError(f"{option} before `{below}` is for the table alone: give `{below}` its own, after it")


def _named(settings: CloudSettings, index: Index, cameras: Sequence[str], sites: Sequence[str]) -> list[str]:
    """Return the cameras that are meant, each once. Raises InputError for one that cannot have a student."""
    edges = settings.grouping.edges(sites) if sites else frozenset()
    rows = {row.name: row for row in Roster(index).rows()}
    names = [name for name, row in rows.items() if row.edge in edges and not row.revoked] if sites else list(cameras)
    if not names:
        raise InputError(f"no camera is of {' or '.join(sites)}: see `culling cloud status`")
    desired = DesiredStates(index).all()
    for name in names:
        Roster(index).require(name)
        if rows[name].revoked:
            raise InputError(f"the edge of camera {name} is revoked")
        if pinned := desired.get(name, DesiredState()).pinned:
            raise InputError(f"camera {name} is pinned to {pinned}: unpin it first")
    return list(dict.fromkeys(names))


def _in_use(index: Index, names: Sequence[str], sha256: str, scale: float) -> tuple[list[str], list[str]]:
    """Return the cameras that do not use these very bytes at that scale, and those that do."""
    with index.read() as connection:
        same = [name for name in names if uses(connection, name, sha256, scale) is not None]
    return [name for name in names if name not in same], same


def _turn(settings: CloudSettings, number: int, states: Sequence[str], to: RolloutState, action: str) -> None:
    index, actor = Index(settings.store_url), operator()
    known = {one.id: one for one in Trials(index).rollouts()}
    if number not in known:
        raise InputError(f"there is no rollout {number}: see `culling cloud waves`")
    if not Trials(index).turn(number, states, to, actor, time.time(), f"{action} by {actor.who}", action):
        raise InputError(
            f"rollout {number} is {known[number].state}: `{action}` is for one that is {' or '.join(states)}"
        )
    print(f"rollout {number} is {to}{when(settings)}")


def _told(trial: Trial) -> dict[str, Any]:
    shown = ("camera", "wave", "state", "model_id", "before", "began", "ended", "why")
    return {name: getattr(trial, name) for name in shown}


def _columns(rollout: Rollout, trials: Sequence[Trial]) -> dict[str, str]:
    open_ = [trial.wave for trial in trials if trial.state in OPEN]
    count = Counter("under way" if trial.state in UNDER_WAY else trial.state for trial in trials)
    return {
        "id": str(rollout.id),
        "student": rollout.name,
        "started": datetime.fromtimestamp(rollout.started, UTC).strftime("%m-%d %H:%M"),
        "is": rollout.state,
        "wave": f"{min(open_) + 1 if open_ else len(rollout.waves)} of {len(rollout.waves)}",
        "cameras": ", ".join(f"{count[state]} {state}" for state in SHOWN_STATES if count[state]),
    }


def _lines(trials: Sequence[Trial]) -> Iterator[str]:
    for trial in trials:
        if trial.state == "waiting":
            continue
        of = "" if trial.rollout is None else f"rollout {trial.rollout}, wave {trial.wave + 1}, "
        doing = {"shadow": f"runs beside {trial.before}", "live": "is in use, on trial", "back": "was taken back"}
        what = f"{trial.model_id} {doing.get(trial.state, trial.state)}"
        yield f"{of}{trial.camera}: {what}: {trial.why or 'not yet judged'}"
