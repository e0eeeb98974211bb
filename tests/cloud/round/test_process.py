from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from culling.cloud.bill.count import student_cost
from culling.cloud.bill.rates import Rates
from culling.cloud.model.export import parity_sizes
from culling.cloud.model.family import family_of
from culling.cloud.model.train import train
from culling.cloud.model.weights import load_weights
from culling.cloud.round.context import Context, Results, RoundRefusedError, StoppedError
from culling.cloud.round.cull import cull
from culling.cloud.round.export import BLANK, PARITY_FRAMES
from culling.cloud.round.fit import fit
from culling.cloud.round.label import label
from culling.cloud.round.process import STAGES, attempt, main, report, within
from culling.cloud.round.rank import Lesson
from culling.cloud.round.score import score
from culling.cloud.settings import to_toml
from culling.cloud.store.registry import Artefact
from culling.cloud.store.rounds import MAX_CRASHES, STOPPED, LeaseLostError, Round
from culling.common.errors import ModelError
from culling.common.graph import open_graph
from culling.common.process.child import DIES_FIRST
from culling.common.traces.settings import TracesSettings
from culling.common.wire.messages import from_wire
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState
from support.collector import collector
from support.detectors import picture
from support.rounds import EDGE, FAKE, ROUND, add, enter, only, run, start, teach
from support.scores import ranker

# A whole round


def test_a_round_ends_with_a_model_that_can_be_published(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    proven = Lesson(90, 45, 0.5, 0.6, 1.0, 0.05, ranker(0.5, loss=0.25))
    monkeypatch.setattr("culling.cloud.round.rank.learn", lambda *_: proven)
    round_id = start(cloud)
    assert run(cloud, round_id) == "ready"
    turn = cloud.rounds.get(round_id)
    assert list(turn.stages) == ["label", "score", "cull", "learn", "resolution", "train", "export", "gate"]
    told = turn.report
    assert told["published"]
    assert told["kept"] == 4
    assert 0 < told["scale"] <= 1.0
    assert told["curve"][0]["k"] == 0
    assert set(told["seconds"]) == set(STAGES)
    assert told["newest_capture"] == max(frame.captured for frame in cloud.frames.get(turn.stages["cull"]["kept"]))
    assert told["parent"] == "gate-1"
    figures = {"pairs": 90, "audits": 45, "gain_loss": 0.5, "gain_learned": 0.6, "certainty": 1.0, "budget": 0.05}
    assert told["ranker"] == {**figures, "proven": True}
    assert 0 <= told["map_before"] <= 1
    assert 0 <= told["map_after"] <= 1
    assert set(told["spent"]) == set(STAGES) - {"label"}, "the teacher's work is in the labels, whoever did it"
    assert all(told["spent"][stage]["gflops"] > 0 for stage in ("resolution", "train", "export", "gate"))
    billed = told["bill"]
    assert billed["parts"]["labels"]["passes"] == told["labelled"]
    assert billed["parts"]["labels"]["gflops"] > 0
    assert billed["parts"]["train"] == {"passes": None, **told["spent"]["train"]}
    assert billed["gflops"] == pytest.approx(sum(part["gflops"] for part in billed["parts"].values()), abs=0.1)
    assert Rates(cloud.index).read("train").seconds_per_gflop > 0

    done = turn.stages
    assert done["label"]["held_out"]
    assert all(frame.held_out for frame in cloud.frames.get(done["label"]["held_out"]))
    learnt = cloud.frames.get([*done["cull"]["kept"], *done["cull"]["replay"]])
    assert not any(frame.held_out for frame in learnt)

    artefact = msgspec.convert(turn.stages["export"]["artefact"], Artefact)
    model = cloud.publisher.publish_round(round_id, CAMERA, artefact)
    assert (model.counter, model.artefact.scale) == (2, told["scale"])
    assert model.artefact.ranker == proven.ranker
    assert artefact.sha256 != cloud.registry.models(CAMERA)[-1].artefact.sha256, "it has learnt something"
    open_graph(cloud.files.read(artefact.sha256), provider="cpu", threads=1)
    (golden,) = artefact.golden
    assert len(from_wire(golden.detections, len(artefact.classes))) > 0

    # The next round starts from those weights, and looks at this one's frames with the student that came of it.
    add(cloud, range(20, 28))
    second = start(cloud)
    assert run(cloud, second) == "ready"
    stages_done = cloud.rounds.get(second).stages
    assert stages_done["score"]["scored"] == stages_done["score"]["pool"] > done["score"]["pool"]
    assert stages_done["cull"]["replay"]
    assert not set(stages_done["cull"]["replay"]) & set(stages_done["cull"]["kept"])
    assert cloud.rounds.get(second).report["parent"] == "gate-2"


def test_a_camera_changes_its_family_by_a_round(cloud: CloudState) -> None:
    student = cloud.settings.student.model_copy(update={"family": "yolox", "weights": "bundled"})
    cloud.settings = cloud.settings.model_copy(update={"student": student})
    round_id = start(cloud)
    run(cloud, round_id)  # what is learnt here is not worth publishing
    assert "gate" in cloud.rounds.get(round_id).stages
    artefact = msgspec.convert(cloud.rounds.get(round_id).stages["export"]["artefact"], Artefact)
    assert artefact.weights is not None
    learnt, classes = load_weights(cloud.files.path(artefact.weights, "safetensors"))
    assert family_of(learnt).name == "yolox"
    assert open_graph(cloud.files.read(artefact.sha256), provider="cpu", threads=1).info.classes == classes
    assert artefact.cost == student_cost(learnt, cloud.settings.round.frozen), "a pass of it costs what its own does"
    spent = cloud.rounds.get(round_id).report["spent"]
    looks = (2 * PARITY_FRAMES + BLANK) * sum(
        artefact.cost.look.gflops(size) for size in parity_sizes(artefact.long_side)
    )
    assert spent["export"]["gflops"] == pytest.approx(looks, rel=0.01)
    learnt_at_most = artefact.cost.learn.gflops((128, 128)) * ROUND["most_steps"] * ROUND["batch"]
    assert spent["train"]["gflops"] <= learnt_at_most, "billed by its own family's price"


# Restarts


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_round_that_was_cut_short_goes_on_where_it_was(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    class PowerCutError(BaseException):
        pass

    def cut(*_: Any) -> dict[str, Any]:
        raise PowerCutError

    round_id = enter(cloud)
    with monkeypatch.context() as patch:
        only(patch, **{**FAKE, stage: cut})
        with pytest.raises(PowerCutError):
            run(cloud, round_id)
    assert cloud.rounds.get(round_id).state == "running"
    ran = only(monkeypatch, **FAKE)
    assert run(cloud, round_id) == "ready"
    assert ran == list(STAGES)[list(STAGES).index(stage) :]


def test_a_stop_between_steps_of_training_loses_none_of_them(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, stopping = [], threading.Event()

    def stopped_after_one(*arguments: Any, **named: Any) -> Any:
        calls = iter((False, True))
        run = train(*arguments, **named | ({} if steps else {"stop": lambda: next(calls)}))
        steps.append(run.step)
        return run

    ran = only(monkeypatch, **{**FAKE, "label": label, "cull": cull, "train": fit})
    monkeypatch.setattr("culling.cloud.round.fit.train", stopped_after_one)
    round_id = start(cloud)
    with pytest.raises(StoppedError):
        run(cloud, round_id, stopping)
    assert run(cloud, round_id) == "ready"
    assert steps == [1, 2], "both that the settings allow"
    assert ran.count("label") == 1


def test_steps_in_8_bits_follow_those_in_floats_and_a_stop_loses_none_of_either(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = cloud.settings.student.model_copy(update={"int8": True})
    longer = cloud.settings.round.model_copy(update={"int8_steps": 3})
    cloud.settings = cloud.settings.model_copy(update={"student": student, "round": longer})
    runs: list[tuple[bool, int, float]] = []

    def stopped_once_in_8_bits(*arguments: Any, **named: Any) -> Any:
        eight, calls = named["loss"] is not None, iter((False, True))
        run = train(*arguments, **named | ({"stop": lambda: next(calls)} if eight and len(runs) == 1 else {}))
        runs.append((eight, run.step, arguments[2].lr))
        return run

    only(monkeypatch, **{**FAKE, "label": label, "cull": cull, "train": fit})
    monkeypatch.setattr("culling.cloud.round.fit.train", stopped_once_in_8_bits)
    round_id = start(cloud)
    with pytest.raises(StoppedError):
        run(cloud, round_id)
    assert run(cloud, round_id) == "ready"
    floats, eight = longer.lr, pytest.approx(0.1 * longer.lr)
    assert runs == [(False, 2, floats), (True, 1, eight), (False, 2, floats), (True, 3, eight)]
    assert cloud.rounds.get(round_id).stages["train"]["ended"].endswith(", then 3 in 8 bits")


def test_a_round_that_is_told_to_stop_stops_before_the_next_stage(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    ran = only(monkeypatch, **{**FAKE, "label": lambda *_: stopping.set() or {"labelled": 0}})
    with pytest.raises(StoppedError):
        run(cloud, enter(cloud), stopping)
    assert ran == ["label"]


def test_a_damaged_checkpoint_costs_the_training_and_not_the_round(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, **{**FAKE, "label": label, "cull": cull, "train": fit})
    round_id = start(cloud)
    folder = cloud.data_dir / "rounds" / str(round_id)
    folder.mkdir(parents=True)
    (folder / "train.checkpoint").write_bytes(b"rot")
    assert run(cloud, round_id) == "ready"


def test_a_round_that_has_ended_is_left_alone(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    round_id = enter(cloud)
    cloud.rounds.end(round_id, "refused", {"kept": 1}, "worse", 1.0)
    ran = only(monkeypatch, **FAKE)
    assert run(cloud, round_id) == "refused"
    assert ran == []


# Rounds without a model


def refuse(*_: Any) -> dict[str, Any]:
    raise RoundRefusedError("too dark")


def fail(*_: Any) -> dict[str, Any]:
    raise ModelError("the teacher is of another shape")


@pytest.mark.parametrize(
    ("stage", "state", "reason"), [(refuse, "refused", "too dark"), (fail, "failed", "ModelError: the teacher")]
)
def test_a_stage_that_cannot_ends_the_round_with_its_reason(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch, stage: Any, state: str, reason: str
) -> None:
    only(monkeypatch, **{**FAKE, "train": stage})
    round_id = enter(cloud)
    assert run(cloud, round_id) == state
    turn = cloud.rounds.get(round_id)
    assert turn.reason.startswith(reason)
    assert turn.finished is not None
    assert turn.report["kept"] == 1
    assert not turn.report["published"]
    assert list(turn.report["spent"]) == ["score", "cull", "learn", "resolution", "train"], "the one that ended it too"


def test_a_candidate_that_is_not_better_is_refused(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    worse = {**FAKE["gate"](), "reason": "the candidate is not better"}
    only(monkeypatch, **{**FAKE, "gate": lambda *_: worse})
    round_id = enter(cloud)
    assert run(cloud, round_id) == "refused"
    turn = cloud.rounds.get(round_id)
    assert (turn.reason, turn.report["map_after"]) == ("the candidate is not better", 0.2)


def test_a_camera_without_a_model_is_refused(cloud: CloudState) -> None:
    cloud.enroll("yard", edge="edge-2")
    add(cloud, range(1, 5), camera="yard", boot="boot-2")
    teach(cloud)
    turn = cloud.rounds.start("yard", "manual", 1.0)
    assert run(cloud, turn.id) == "refused"
    assert "no model to start from" in cloud.rounds.get(turn.id).reason


@pytest.mark.parametrize("renewed", [True, False])
def test_a_round_whose_camera_got_another_model_meanwhile_says_so_and_goes_on_where_it_was_only_renewed(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch, renewed: bool
) -> None:
    def scored_as_another_came(context: Context, turn: Round, results: Results) -> dict[str, Any]:
        told = score(context, turn, results)
        live = cloud.registry.live()[CAMERA].artefact
        cloud.publisher.publish(CAMERA, live if renewed else cloud.artefact(tag="another"), "base")
        return told

    only(monkeypatch, **{**FAKE, "label": label, "score": scored_as_another_came, "cull": cull})
    round_id = start(cloud)
    state = run(cloud, round_id)
    turn = cloud.rounds.get(round_id)
    if renewed:
        assert (state, len(turn.stages["cull"]["kept"])) == ("ready", 4)
    else:
        told = "gate-2 went live during the round, which began with gate-1: the next round starts from it"
        assert (state, turn.reason) == ("refused", told)


# Stages by themselves


def test_a_report_tells_what_was_reached() -> None:
    results = {"label": {"labelled": 3, "seconds": 1.5}}
    assert report(results, "refused") == {
        "published": False,
        "labelled": 3,
        "kept": 0,
        "replayed": 0,
        "seconds": {"label": 1.5},
    }


# The process


def test_settings_that_are_wrong_end_the_process_with_their_code(tmp_path: Path) -> None:
    (tmp_path / "cloud.toml").write_text("[service]\nnonsense = 1\n")
    assert main(["--config", str(tmp_path / "cloud.toml"), "1"]) == 2


def test_pictures_differ_so_that_losses_do() -> None:
    assert not np.array_equal(picture(96, 128, 1), picture(96, 128, 2))


def test_a_round_is_ended_before_the_service_where_memory_runs_out(tmp_path: Path) -> None:
    code = "from culling.cloud.round.process import main; main(['--config', 'none.toml', '1'])"
    tell = "; print(open('/proc/self/oom_score_adj').read())"
    ended = subprocess.run(
        [sys.executable, "-c", code + tell], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert int(ended.stdout.split()[-1]) >= DIES_FIRST


def test_a_process_that_dies_together_with_the_service_again_and_again_ends_its_round(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, round_id, stopping = only(monkeypatch, **FAKE), enter(cloud), threading.Event()
    stopping.set()
    for crashes in range(MAX_CRASHES):
        with pytest.raises(StoppedError):
            attempt(cloud.settings, cloud.index, round_id, stopping, cloud.clock, cloud.rounds.lease(round_id))
        assert cloud.rounds.get(round_id).crashes == crashes, "one that was stopped is no crash"
        cloud.rounds.begin(round_id, cloud.rounds.lease(round_id))  # one that is killed says nothing after this
    attempt(cloud.settings, cloud.index, round_id, stopping, cloud.clock, cloud.rounds.lease(round_id))
    ended = cloud.rounds.get(round_id)
    assert (ended.state, ended.crashes, ran) == ("failed", MAX_CRASHES, [])
    assert "together with the service" in ended.reason


def test_a_zombie_ends_at_its_next_stage_and_nothing_of_it_stays(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_over(*_: Any) -> dict[str, Any]:
        cloud.rounds.lease(round_id)
        return {"scored": 2}

    ran, round_id = only(monkeypatch, **{**FAKE, "score": taken_over}), enter(cloud)
    with pytest.raises(LeaseLostError):
        attempt(cloud.settings, cloud.index, round_id, threading.Event(), cloud.clock, cloud.rounds.lease(round_id))
    turn = cloud.rounds.get(round_id)
    assert (ran, list(turn.stages), turn.state) == (["label", "score"], ["label"], "running")
    assert not cloud.rounds.begin(round_id, cloud.rounds.lease(round_id)), "the zombie has left"


def test_a_process_without_the_lease_ends_with_a_line_that_says_so(cloud: CloudState) -> None:
    round_id, path = enter(cloud), cloud.data_dir / "round.toml"
    path.write_bytes(to_toml(cloud.settings))
    cloud.rounds.lease(round_id)
    command = [sys.executable, "-m", "culling.cloud.round", "--config", str(path), "--lease", "of another"]
    ended = subprocess.run([*command, str(round_id)], capture_output=True, text=True, timeout=120)
    assert ended.returncode == STOPPED
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert "round_lease_lost" in line
    assert f"round {round_id} is over, or another process works on it now: what this process did is discarded" in line
    assert cloud.rounds.get(round_id).stages == {}


def test_each_frame_that_a_round_trains_on_has_a_span_in_its_trace(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    kept, replayed = (frame_id(EDGE, "boot-1", seq) for seq in (3, 5))
    chosen = {**FAKE["cull"](), "kept": [kept], "replay": [replayed]}
    round_id = enter(cloud)
    with collector() as collecting:

        def train_later(*_: Any) -> dict[str, Any]:
            collecting.until("cloud.train")
            return FAKE["train"]()

        only(monkeypatch, **{**FAKE, "cull": lambda *_: chosen, "train": train_later})
        cloud.settings = cloud.settings.model_copy(update={"traces": TracesSettings(endpoint=collecting.endpoint)})
        run(cloud, round_id)
    spans = {span.trace: span for span in collecting.spans}
    assert {span.name for span in collecting.spans} == {"cloud.train"}
    assert {trace: span.about["culling.role"] for trace, span in spans.items()} == {kept: "kept", replayed: "replayed"}
    assert spans[kept].about["culling.round"] == round_id
    assert spans[kept].parent == kept[:16]


@pytest.mark.parametrize(("threads", "expected"), [(0, 1), (3, 3)])
def test_a_round_keeps_to_its_share_of_the_machine(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch, threads: int, expected: int
) -> None:
    told: list[Any] = []
    monkeypatch.setattr("torch.set_num_threads", told.append)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda *said: told.append(said))
    assert within(cloud.settings, threads, 0.5).round.threads == expected
    assert told == [expected, (0.5, 0), (0.5, 1)]
    within(cloud.settings, threads, 1.0)
    assert told[3:] == [expected], "alone on the machine, a round may have all of a GPU"
