"""One round in a process of its own: `python -m culling.cloud.round --config FILE ROUND_ID`.

The result of each finished stage is saved; a round that starts again after a stop, a crash or a power cut skips those
stages. The round ends `ready`, `refused` or `failed` in the index; the service, which holds the keys, signs and
publishes. With `--watch-stdin` the process also stops when its standard input closes, as it does when the service that
started it dies. It works under the lease that it was given, and ends as soon as another has taken its place.
"""

from __future__ import annotations

import argparse
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import torch

from culling.cloud.bill.account import round_figures, to_spent, to_told
from culling.cloud.bill.cost import NOTHING, Cost
from culling.cloud.bill.rates import Rates
from culling.cloud.changed.kept import Changes
from culling.cloud.round.context import Context, Result, Results, RoundRefusedError, StoppedError
from culling.cloud.round.cull import cull
from culling.cloud.round.export import export
from culling.cloud.round.fit import fit
from culling.cloud.round.gate import gate
from culling.cloud.round.label import label
from culling.cloud.round.progress import ProgressWriter
from culling.cloud.round.rank import rank
from culling.cloud.round.scale import scale
from culling.cloud.round.score import score
from culling.cloud.round.zoo.students import siblings
from culling.cloud.round.zoo.zoo import zoo
from culling.cloud.settings import CloudSettings, load_settings
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.features.features import feature_store
from culling.cloud.store.folders import alone
from culling.cloud.store.index import Index
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.objects.places import frame_store, model_files
from culling.cloud.store.registry import Registry
from culling.cloud.store.requests import Requests
from culling.cloud.store.rounds import MAX_CRASHES, STOPPED, LeaseLostError, Round, Rounds
from culling.common import logs
from culling.common.clock import Clock, SystemClock
from culling.common.errors import CullingError, StorageError
from culling.common.process.child import die_first, die_with_parent, stop_when_told
from culling.common.traces.settings import traces_or_none

if TYPE_CHECKING:
    from culling.common.traces.spans import About, Traces

log = structlog.get_logger(__name__)

STAGES: dict[str, Callable[[Context, Round, Results], Result]] = {
    "label": label,
    "score": score,
    "cull": cull,
    "learn": rank,
    "resolution": scale,
    "train": fit,
    "export": export,
    "gate": gate,
}
"""Every stage in order, under the name that the index and reports store: three are older than their files' names.

Where there is a zoo, its stage comes after the first one: what passes the gate there is published without the others.
"""

GATE_FIGURES = (
    *("wanted", "blocks", "gain_low", "certainty", "checks", "verdict", "confirmed", "withdrawn", "again"),
    "changed",  # see `changed/`
    *("compared", "new_classes"),  # where the candidate is for another class list
)

ZOO_FIGURES = ("told", "frames", "shares", "unusable", "outcomes")

RANKER_FIGURES = ("pairs", "audits", "gain_loss", "gain_learned", "certainty", "budget", "proven")


def run_round(
    settings: CloudSettings,
    index: Index,
    round_id: int,
    stopping: threading.Event,
    clock: Clock,
    lease: str | None = None,
) -> str:
    """Run the unfinished stages of a round, and return the state that it ends in; None is the lease of nobody else.

    Raises StoppedError when `stopping` is set, StorageError when something cannot be read or written, LeaseLostError
    when it is another's by now. All of them leave the round unfinished, so that it can be resumed.
    """
    rounds = Rounds(index)
    turn = rounds.get(round_id)
    if turn.state != "running":
        return turn.state
    folder = settings.data_dir / "rounds" / str(round_id)
    store = frame_store(settings, index, clock)
    context = Context(
        settings,
        store,
        FrameLifecycle(index, store, clock),
        model_files(settings),
        Registry(index),
        folder,
        stopping.is_set,
        ProgressWriter(folder, clock.now),
        Rates(index),
        Changes(index),
        feature_store(settings, index),
        ClassLists(index).of(turn.camera),
        siblings(settings, index, turn.camera) if settings.round.zoo else (),
    )
    folder.mkdir(parents=True, exist_ok=True)
    with traces_or_none(settings.traces, "cloud") as traces:
        taken = partial(_trace_taken, traces, turn, clock) if traces is not None else None
        state, reason, spent = _work(context, turn, rounds, lease, taken)
    results = rounds.get(round_id).stages
    ended = None if state == "ready" else clock.now()
    if (train := spent.get("train", NOTHING)).gflops > 0:
        context.rates.note("train", train.gflops, train.seconds)
    told = report(results, state) | round_figures(index, settings, turn.camera, clock.now(), spent)
    rounds.end(round_id, state, told, reason, ended, lease)
    if state == "refused" and (judged := results.get("gate", {})).get("withdrawn"):  # only the service can sign a model
        named = {name: judged[name] for name in ("withdrawn", "back_to")}
        Requests(index).ask_once("rollback", turn.camera, clock.now(), named)
    log.info("round_ended", round=round_id, camera=turn.camera, state=state, reason=reason)
    return state


def attempt(
    settings: CloudSettings, index: Index, round_id: int, stopping: threading.Event, clock: Clock, lease: str
) -> None:
    """Run a round as `run_round` does, for the one process that works on it, whose end the service may not see.

    Where memory runs out, process and service are killed together. Uncounted, that would go on for ever; so each
    process leaves word that it ended, and the next one counts a crash where there is none.
    """
    rounds = Rounds(index)
    lost = rounds.begin(round_id, lease)
    try:
        if not (lost and _is_one_too_many(rounds, round_id, clock)):
            run_round(settings, index, round_id, stopping, clock, lease)
    finally:
        rounds.leave(round_id, lease)


def _is_one_too_many(rounds: Rounds, round_id: int, clock: Clock) -> bool:
    crashes = rounds.crashed(round_id)
    log.error("round_process_lost", round=round_id, camera=rounds.get(round_id).camera, crashes=crashes)
    if crashes < MAX_CRASHES:
        return False
    reason = f"its process died {MAX_CRASHES} times, last together with the service: perhaps memory ran out"
    rounds.end(round_id, "failed", {}, reason, clock.now())
    return True


def _work(
    context: Context, turn: Round, rounds: Rounds, lease: str | None, taken: Callable[[Result], None] | None
) -> tuple[str, str, dict[str, Cost]]:
    """Run every unfinished stage; return the round's new state, the reason for it, and what each stage cost.

    What a process computed in a stage that it did not finish, because it was stopped or died, is not known.
    """
    results: Results = dict(turn.stages)
    spent = to_spent(results)
    if (live := context.registry.live().get(turn.camera)) is not None:
        context.cost(live)  # noted with the model, which the day's bill asks for
    name, started = "", time.monotonic()

    def take() -> Cost:
        return Cost(round(time.monotonic() - started, 2), context.work.take())

    try:
        for name, stage in _stages(context.settings).items():
            if name in results or (name != "gate" and "judged" in results.get("zoo", {})):
                continue
            if context.stopping():
                raise StoppedError
            started = time.monotonic()
            context.heart.stage(name)
            if "score" in results:
                context.incumbent(turn.camera, results)  # where another one went live, the round shows nothing
            result = stage(context, turn, results)
            spent[name] = take()
            result |= to_told(spent[name])
            rounds.save_stage(turn.id, name, result, lease)
            results[name] = result
            if name == "cull" and taken is not None:
                taken(result)
            log.info("stage_finished", round=turn.id, camera=turn.camera, stage=name, seconds=result["seconds"])
    except RoundRefusedError as refusal:
        return "refused", str(refusal), spent | {name: take()}
    except StorageError:  # a disk recovers, so the round is tried again
        raise
    except CullingError as error:  # a retry would fail the same way
        return "failed", f"{type(error).__name__}: {error}", spent | {name: take()}
    reason = results["gate"]["reason"]
    return ("refused", reason, spent) if reason else ("ready", "", spent)


def _stages(settings: CloudSettings) -> dict[str, Callable[[Context, Round, Results], Result]]:
    return {"label": STAGES["label"], "zoo": zoo, **STAGES} if settings.round.zoo else STAGES


def _trace_taken(traces: Traces, turn: Round, clock: Clock, culled: Result) -> None:
    """Say in the trace of each frame that the round trains on that the stage that has just ended took it for that."""
    now = clock.now()
    for role, frames in (("kept", culled["kept"]), ("replayed", culled["replay"])):
        for frame in frames:
            about: About = {"camera": turn.camera, "round": turn.id, "role": role}
            traces.span("cloud.train", frame, now - culled["seconds"], now, about)


def report(results: Results, state: str) -> dict[str, Any]:
    """Return a round's figures under stable names, without those of stages that it did not reach."""
    labelled, culled = results.get("label", {}), results.get("cull", {})
    told: dict[str, Any] = {
        "published": state == "ready",
        "labelled": labelled.get("labelled", 0),
        "kept": len(culled.get("kept", ())),
        "replayed": len(culled.get("replay", ())),
        "seconds": {name: result["seconds"] for name, result in results.items()},
    }
    wanted = {
        "score": ("scored", "unseen"),
        "cull": (
            "newest_capture",
            "pool",
            "teaching",
            "hardness",
            "mass",
            "hard_negatives",
            "in_vain",
            "of_people",
            "audits_labelled",
            "audits_missed",
        ),
        "resolution": ("scale", "curve", "scale_why", "scale_passes"),
        "train": ("train_s", "steps", "most_steps", "best_step", "ended", "losses", "looks", "spared", "distilled"),
        "export": ("parity",),
        "gate": ("map_before", "map_after", "map_before_50_95", "map_after_50_95", "frames", "scale", *GATE_FIGURES),
    }
    for stage, names in wanted.items():
        found = results.get(stage, {})
        told |= {name: found[name] for name in names if name in found}
    if "learn" in results:
        told["ranker"] = {name: results["learn"][name] for name in RANKER_FIGURES}
    if "zoo" in results:
        told["zoo"] = {name: results["zoo"][name] for name in ZOO_FIGURES}
    if (made := results.get("zoo", {}).get("judged") or results.get("export")) is not None:
        told["parent"] = made["artefact"]["parent"]
    if results.get("gate", {}).get("outcome") == "provisional":
        told["provisional"] = True
    return told


def within(settings: CloudSettings, threads: int, gpu_share: float) -> CloudSettings:
    """Have this process keep to so many threads (0: as many as `round.threads` says) and a share of each GPU's memory.

    Return the settings with that number of threads.
    """
    threads = threads or settings.round.threads
    if threads:
        torch.set_num_threads(threads)
    if gpu_share < 1:
        for device in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(gpu_share, device)
    return settings.model_copy(update={"round": settings.round.model_copy(update={"threads": threads})})


def _run_alone(settings: CloudSettings, round_id: int, lease: str | None, stopping: threading.Event) -> None:
    folder = settings.data_dir / "rounds" / str(round_id)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / "lock"):  # its process of a service that died may still run
        index = Index(settings.store_url)
        token = lease or Rounds(index).lease(round_id)
        attempt(settings, index, round_id, stopping, SystemClock(), token)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one round. The exit code is 0 when it ended, `STOPPED` when it has to be resumed, else that of the error."""
    parser = argparse.ArgumentParser(prog="python -m culling.cloud.round", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the service's settings file")
    parser.add_argument("--watch-stdin", action="store_true", help="stop when standard input closes")
    parser.add_argument(
        "--die-with-parent", action="store_true", help="be killed when the process that started it ends"
    )
    parser.add_argument("--lease", help="the lease to work under; without one the process takes the round over")
    parser.add_argument("--threads", type=int, default=0, help="threads, in place of round.threads")
    parser.add_argument("--gpu-share", type=float, default=1.0, help="of each GPU's memory, in (0, 1]")
    parser.add_argument("round_id", type=int, help="the round's number in the index")
    arguments = parser.parse_args(argv)
    die_first()
    if arguments.die_with_parent:
        die_with_parent()
    stopping = stop_when_told(arguments.watch_stdin)
    try:
        settings = load_settings(arguments.config, {})
        logs.setup(settings.service.log_level)
        for chatty in ("onnx_ir", "onnxscript"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        os.nice(settings.round.nice)
        settings = within(settings, arguments.threads, arguments.gpu_share)
        _run_alone(settings, arguments.round_id, arguments.lease, stopping)
    except StoppedError:
        log.info("round_stopped", round=arguments.round_id)
        return STOPPED
    except LeaseLostError as lost:
        log.warning("round_lease_lost", round=arguments.round_id, told=f"{lost}: what this process did is discarded")
        return STOPPED
    except (CullingError, OSError) as error:
        log.error("round_process_failed", round=arguments.round_id, error=str(error))
        return error.exit_code if isinstance(error, CullingError) else StorageError.exit_code
    return 0
