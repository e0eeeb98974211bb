from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from culling.cloud.model.base import base_artefact
from culling.cloud.round import retrain, stages
from culling.cloud.round.process import main, report, run_round
from culling.cloud.round.ranking import Lesson
from culling.cloud.round.stages import STAGES, RefusedError, StoppedError
from culling.cloud.store.frames import frame_id
from culling.cloud.store.registry import Artefact
from culling.common.errors import ModelError, StorageError
from culling.common.graph import open_graph, see
from culling.common.scaler import input_size
from culling.common.selection.features import FEATURES, SPEC
from culling.common.wire.codec import decode_jpeg, encode_jpeg
from culling.common.wire.messages import WireFeatures, from_wire
from culling.edge.model.student import agree
from support.cloud import CAMERA, CloudState, detections, hard_frame, held_out
from support.detectors import picture
from support.narrow import install
from support.scores import ranker

EDGE = "e" * 40
ROUND = {
    "kept": 4,
    "factor": 2,
    "epochs": 1.0,
    "batch": 2,
    "held_out": 4,
    "checkpoint_s": 0.01,
    "warmup": 1,
    "threads": 1,
}
QUICK = {
    "round": ROUND,
    "teacher": {"short_side": 96, "batch": 2, "min_score": 0.0, "true_score": 0.1},
    "student": {"long_side": 128},
    "resolution": {"max_steps": 2, "threshold": 1e9},
    "gate": {"margin": -1.0, "least": 1},
}


@pytest.fixture
def cloud(tmp_path: Path, narrow: Path) -> Iterator[CloudState]:
    """A camera with a narrow student and a narrow teacher, and a dozen frames that wait for a round."""
    weights = str(narrow / "student.safetensors")
    sections = {**QUICK, "student": {**QUICK["student"], "weights": weights}}
    sections["teacher"] = {**QUICK["teacher"], "weights": weights}
    state = CloudState(tmp_path, **sections)
    install(narrow, state.data_dir)
    state.enrol()
    state.publisher.publish(CAMERA, base_artefact(state.settings, state.files), "base")
    add(state, range(1, 13))
    yield state
    state.close()


def add(cloud: CloudState, seqs: range, **changes: Any) -> None:
    for seq in seqs:
        frame, jpeg = hard_frame(seq, jpeg=encode_jpeg(picture(96, 128, seq)), width=128, height=96, **changes)
        cloud.frames.add(EDGE, frame, jpeg)


def run(cloud: CloudState, round_id: int, stopping: threading.Event | None = None) -> str:
    return run_round(cloud.settings, cloud.index, round_id, stopping or threading.Event(), cloud.clock)


def start(cloud: CloudState) -> int:
    return cloud.rounds.start(CAMERA, "manual", cloud.clock.now()).id


def only(monkeypatch: pytest.MonkeyPatch, **replaced: Callable[..., dict[str, Any]]) -> list[str]:
    """Replace stages by quick ones; return the list that fills with the names of those that ran."""
    ran: list[str] = []

    def wrapped(name: str, stage: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def stage_that_tells(*arguments: Any) -> dict[str, Any]:
            ran.append(name)
            return stage(*arguments)

        return stage_that_tells

    for name in list(STAGES):
        monkeypatch.setitem(STAGES, name, wrapped(name, replaced.get(name, STAGES[name])))
    return ran


def nothing(*_: Any) -> dict[str, Any]:
    return {}


FAKE = {
    "label": lambda *_: {"labelled": 3},
    "cull": lambda *_: {"kept": ["a"], "replay": [], "newest_capture": 5.0, "hardness": 0.5, "hard_negatives": 0},
    "learn": lambda *_: {**msgspec.to_builtins(Lesson(9, 3)), "proven": False},
    "resolution": lambda *_: {"scale": 0.9, "curve": []},
    "train": lambda *_: {"train_s": 1.0, "steps": 1},
    "export": lambda *_: {"artefact": {"parent": "gate-1"}, "parity": {}},
    "gate": lambda *_: {
        "map_before": 0.1,
        "map_after": 0.2,
        "map_before_50_95": 0.0,
        "map_after_50_95": 0.1,
        "frames": 4,
        "reason": "",
    },
}


# A whole round


def test_a_round_ends_with_a_model_that_can_be_published(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    proven = Lesson(90, 45, 0.5, 0.6, 1.0, ranker(0.5, loss=0.25))
    monkeypatch.setattr(stages, "learn", lambda *_: proven)
    round_id = start(cloud)
    assert run(cloud, round_id) == "ready"
    turn = cloud.rounds.get(round_id)
    assert list(turn.stages) == ["label", "cull", "learn", "resolution", "train", "export", "gate"]
    told = turn.report
    assert told["published"]
    assert told["kept"] == 4
    assert 0 < told["scale"] <= 1.0
    assert told["curve"][0]["k"] == 0
    assert set(told["seconds"]) == set(STAGES)
    assert told["newest_capture"] == max(frame.captured for frame in cloud.frames.get(turn.stages["cull"]["kept"]))
    assert told["parent"] == "gate-1"
    figures = {"pairs": 90, "audits": 45, "gain_loss": 0.5, "gain_learned": 0.6, "certainty": 1.0}
    assert told["ranker"] == {**figures, "proven": True}
    assert 0 <= told["map_before"] <= 1
    assert 0 <= told["map_after"] <= 1

    done = turn.stages
    assert done["label"]["held_out"]
    assert all(frame.held_out for frame in cloud.frames.get(done["label"]["held_out"]))
    learnt = cloud.frames.get([*done["label"]["candidates"], *done["cull"]["kept"]])
    assert not any(frame.held_out for frame in learnt)

    artefact = msgspec.convert(turn.stages["export"]["artefact"], Artefact)
    model = cloud.publisher.publish_round(round_id, CAMERA, artefact)
    assert (model.counter, model.artefact.scale) == (2, told["scale"])
    assert model.artefact.ranker == proven.ranker
    assert artefact.sha256 != cloud.registry.models(CAMERA)[-1].artefact.sha256, "it has learnt something"
    open_graph(cloud.files.read(artefact.sha256), provider="cpu", threads=1)
    (golden,) = artefact.golden
    assert len(from_wire(golden.detections, len(artefact.classes))) > 0

    # The next round starts from those weights, and replays some of this one's frames.
    add(cloud, range(20, 28))
    second = start(cloud)
    assert run(cloud, second) == "ready"
    stages_done = cloud.rounds.get(second).stages
    assert stages_done["cull"]["replay"]
    assert set(stages_done["cull"]["replay"]) <= set(turn.stages["cull"]["kept"])
    assert cloud.rounds.get(second).report["parent"] == "gate-2"


# Restarts


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_round_that_was_cut_short_goes_on_where_it_was(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    class PowerCutError(BaseException):
        pass

    def cut(*_: Any) -> dict[str, Any]:
        raise PowerCutError

    round_id = start(cloud)
    with monkeypatch.context() as patch:
        only(patch, **{**FAKE, stage: cut})
        with pytest.raises(PowerCutError):
            run(cloud, round_id)
    assert cloud.rounds.get(round_id).state == "running"
    ran = only(monkeypatch, **FAKE)
    assert run(cloud, round_id) == "ready"
    assert ran == list(STAGES)[list(STAGES).index(stage) :]


def test_labels_are_asked_for_once(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    label = stages._label

    def counting(bench: Any, teacher: Any, frames: Any) -> None:
        if asked:
            raise StorageError("the disk is full")
        asked.append(len(frames))
        label(bench, teacher, frames)

    round_id = start(cloud)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "_label", counting)
        with pytest.raises(StorageError):
            run(cloud, round_id)
    assert cloud.rounds.get(round_id).state == "running", "a full disk ends no round"
    ran = only(monkeypatch, **{**FAKE, "label": stages.label})
    run(cloud, round_id)
    assert ran[0] == "label"
    labelled = cloud.rounds.get(round_id).stages["label"]
    assert labelled["labelled"] == len(labelled["candidates"]) + len(labelled["held_out"]) - asked[0]


def test_a_stop_between_steps_of_training_loses_none_of_them(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, steps, stopping = retrain.train, [], threading.Event()

    def stopped_after_one(*arguments: Any, **named: Any) -> Any:
        calls = iter((False, True))
        run = train(*arguments, **named | ({} if steps else {"stop": lambda: next(calls)}))
        steps.append(run.step)
        return run

    ran = only(
        monkeypatch, **{**FAKE, "label": stages.label, "cull": stages.cull_frames, "train": stages.train_student}
    )
    monkeypatch.setattr(retrain, "train", stopped_after_one)
    round_id = start(cloud)
    with pytest.raises(StoppedError):
        run(cloud, round_id, stopping)
    assert run(cloud, round_id) == "ready"
    assert steps == [1, 2]
    assert ran.count("label") == 1


def test_a_round_that_is_told_to_stop_stops_before_the_next_stage(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    ran = only(monkeypatch, **{**FAKE, "label": lambda *_: stopping.set() or {"labelled": 0}})
    with pytest.raises(StoppedError):
        run(cloud, start(cloud), stopping)
    assert ran == ["label"]


def test_a_damaged_checkpoint_costs_the_training_and_not_the_round(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, **{**FAKE, "label": stages.label, "cull": stages.cull_frames, "train": stages.train_student})
    round_id = start(cloud)
    folder = cloud.data_dir / "rounds" / str(round_id)
    folder.mkdir(parents=True)
    (folder / "train.checkpoint").write_bytes(b"rot")
    assert run(cloud, round_id) == "ready"


def test_a_round_that_has_ended_is_left_alone(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    round_id = start(cloud)
    cloud.rounds.end(round_id, "refused", {"kept": 1}, "worse", 1.0)
    ran = only(monkeypatch, **FAKE)
    assert run(cloud, round_id) == "refused"
    assert ran == []


# Rounds without a model


def refuse(*_: Any) -> dict[str, Any]:
    raise RefusedError("too dark")


def fail(*_: Any) -> dict[str, Any]:
    raise ModelError("the teacher is of another shape")


@pytest.mark.parametrize(
    ("stage", "state", "reason"), [(refuse, "refused", "too dark"), (fail, "failed", "ModelError: the teacher")]
)
def test_a_stage_that_cannot_ends_the_round_with_its_reason(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch, stage: Any, state: str, reason: str
) -> None:
    only(monkeypatch, **{**FAKE, "train": stage})
    round_id = start(cloud)
    assert run(cloud, round_id) == state
    turn = cloud.rounds.get(round_id)
    assert turn.reason.startswith(reason)
    assert turn.finished is not None
    assert turn.report["kept"] == 1
    assert not turn.report["published"]


def test_a_candidate_that_is_not_better_is_refused(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    worse = {**FAKE["gate"](), "reason": "the candidate is not better"}
    only(monkeypatch, **{**FAKE, "gate": lambda *_: worse})
    round_id = start(cloud)
    assert run(cloud, round_id) == "refused"
    turn = cloud.rounds.get(round_id)
    assert (turn.reason, turn.report["map_after"]) == ("the candidate is not better", 0.2)


def test_a_round_without_frames_is_refused(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, **{**FAKE, "label": stages.label})
    first, second = start(cloud), start(cloud)
    assert run(cloud, first) == "ready"
    assert run(cloud, second) == "refused"
    assert "no frame to learn from" in cloud.rounds.get(second).reason


def test_a_camera_without_a_model_is_refused(cloud: CloudState) -> None:
    cloud.enrol("yard", edge="edge-2")
    add(cloud, range(1, 5), camera="yard", boot="boot-2")
    turn = cloud.rounds.start("yard", "manual", 1.0)
    assert run(cloud, turn.id) == "refused"
    assert "no model to start from" in cloud.rounds.get(turn.id).reason


# Stages by themselves


def bench(cloud: CloudState) -> stages.Bench:
    folder = cloud.data_dir / "rounds" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    return stages.Bench(cloud.settings, cloud.frames, cloud.files, cloud.registry, folder, lambda: False)


def test_pictures_that_cannot_be_used_are_left_out(cloud: CloudState) -> None:
    torn = encode_jpeg(picture(96, 128, 99))
    frame, jpeg = hard_frame(50, jpeg=torn[: len(torn) // 3], width=128, height=96, loss=99.0)
    cloud.frames.add(EDGE, frame, jpeg)
    path = next((cloud.data_dir / "frames" / CAMERA).glob(f"{frame_id(EDGE, 'boot-1', 3)}.jpg"))
    path.write_bytes(b"flipped" + path.read_bytes()[7:])
    turn = cloud.rounds.get(start(cloud))
    result = stages.label(bench(cloud), turn, {})
    lost = {frame_id(EDGE, "boot-1", seq) for seq in (3, 50)}
    assert not lost & {*result["candidates"], *result["held_out"]}
    assert result["candidates"]


def test_a_student_in_8_bits_is_what_the_gate_judges_and_its_golden_frame_shows(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = cloud.settings.student.model_copy(update={"int8": True})
    cloud.settings = cloud.settings.model_copy(update={"student": student})
    judged: list[str] = []
    graph_of = stages._graph
    monkeypatch.setattr(stages, "_graph", lambda bench, sha256: judged.append(sha256) or graph_of(bench, sha256))  # type: ignore[func-returns-value]

    round_id = start(cloud)
    assert run(cloud, round_id) == "ready"

    artefact = msgspec.convert(cloud.rounds.get(round_id).stages["export"]["artefact"], Artefact)
    data = cloud.files.read(artefact.sha256)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load_model_from_string(data).graph.node}
    assert judged[-1] == artefact.sha256
    graph, (golden,) = open_graph(data, provider="cpu", threads=1), artefact.golden
    image = decode_jpeg(golden.jpeg)
    found = see(graph, image, input_size(image.shape[1], image.shape[0], artefact.scale, artefact.long_side))
    assert agree(found, from_wire(golden.detections, len(artefact.classes)))


def test_the_gate_wants_enough_frames_and_something_on_them(cloud: CloudState) -> None:
    turn = cloud.rounds.get(start(cloud))
    artefact = msgspec.to_builtins(cloud.registry.live()[CAMERA].artefact)
    results = {"label": stages.label(bench(cloud), turn, {}), "export": {"artefact": artefact}}
    with pytest.raises(RefusedError, match="0 held-out frames"):
        stages.gate(bench(cloud), turn, {**results, "label": {"held_out": []}})
    nothing_seen = {name: stages.Detections.empty() for name in results["label"]["held_out"]}
    cloud.frames.label(nothing_seen)
    with pytest.raises(RefusedError, match="cannot judge"):
        stages.gate(bench(cloud), turn, results)


def test_too_few_held_out_frames_end_a_round_before_it_trains(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.settings = cloud.settings.model_copy(update={"gate": cloud.settings.gate.model_copy(update={"least": 99})})
    ran = only(monkeypatch, **{**FAKE, "label": stages.label})
    round_id = start(cloud)
    assert run(cloud, round_id) == "refused"
    assert ran == ["label"]
    assert "99 are needed" in cloud.rounds.get(round_id).reason
    assert cloud.frames.counts()[CAMERA].waiting, "none is used up that nobody learnt from"
    assert not any(frame.labels for frame in cloud.frames.newest_held_out(CAMERA, 99))


def test_no_frame_is_trained_on_twice_after_a_round_that_failed(cloud: CloudState) -> None:
    failed = cloud.rounds.get(start(cloud))
    stages.cull_frames(bench(cloud), failed, {"label": stages.label(bench(cloud), failed, {})})
    cloud.rounds.end(failed.id, "failed", {}, "the teacher is missing", 1.0)
    turn = cloud.rounds.get(start(cloud))
    result = stages.cull_frames(bench(cloud), turn, {"label": stages.label(bench(cloud), turn, {})})
    assert result["kept"]
    assert not set(result["kept"]) & set(result["replay"])


def test_what_the_teacher_doubts_is_told_apart_by_the_settings(cloud: CloudState) -> None:
    (frame,) = cloud.frames.get(_ids(cloud)[:1])
    rows = [(1, 1, 20, 20, score, 0) for score in (0.9, 0.5, 0.2, 0.05)]
    cloud.frames.label({frame.id: detections(*rows)})
    (frame,) = cloud.frames.get([frame.id])
    teacher = cloud.settings.teacher.model_copy(update={"true_score": 0.5, "min_score": 0.1})
    compared = stages._compared(teacher, frame, detections())
    assert compared.true.scores.tolist() == pytest.approx([0.9, 0.5])
    assert compared.doubtful.scores.tolist() == pytest.approx([0.2])


def test_classes_of_no_interest_neither_cull_nor_gate(cloud: CloudState) -> None:
    cloud.settings = cloud.settings.model_copy(
        update={"round": cloud.settings.round.model_copy(update={"interest": ("bus",)})}
    )
    turn = cloud.rounds.get(start(cloud))
    labelled = stages.label(bench(cloud), turn, {})
    people = dict.fromkeys(_ids(cloud), detections((1, 1, 20, 20, 0.9, 0)))
    cloud.frames.label(people)
    assert stages.cull_frames(bench(cloud), turn, {"label": labelled})["hardness"] == 0.0
    artefact = msgspec.to_builtins(cloud.registry.live()[CAMERA].artefact)
    with pytest.raises(RefusedError, match="cannot judge"):
        stages.gate(bench(cloud), turn, {"label": labelled, "export": {"artefact": artefact}})


def test_the_gate_refuses_a_candidate_that_is_only_as_good(cloud: CloudState) -> None:
    cloud.settings = cloud.settings.model_copy(update={"gate": cloud.settings.gate.model_copy(update={"margin": 0.0})})
    turn = cloud.rounds.get(start(cloud))
    artefact = msgspec.to_builtins(cloud.registry.live()[CAMERA].artefact)
    results = {"label": stages.label(bench(cloud), turn, {}), "export": {"artefact": artefact}}
    result = stages.gate(bench(cloud), turn, results)
    assert result["map_after"] == result["map_before"]
    assert "not better" in result["reason"]


def with_features(cloud: CloudState, seqs: range, values: Callable[[int], float], **changes: Any) -> None:
    for seq in seqs:
        told = WireFeatures(SPEC, [values(seq)] * len(FEATURES))
        add(cloud, range(seq, seq + 1), features=told, **changes)


def test_every_labelled_frame_with_features_is_learnt_from(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    with_features(cloud, range(20, 24), float)
    with_features(cloud, range(24, 28), float, reason="audit", loss=0.5)
    add(cloud, range(30, 31), features=WireFeatures(SPEC + 1, [1.0] * len(FEATURES)))
    add(cloud, range(31, 32), features=WireFeatures(SPEC, [1.0]))
    seen = {frame_id(EDGE, "boot-1", seq): detections((1, 1, 20, 20, 0.9, 0)) for seq in (20, 21, 25, 27, 30, 31, 1)}
    seen[frame_id(EDGE, "boot-1", 21)] = detections((60, 60, 90, 90, 0.9, 0))
    cloud.frames.label(seen)
    asked: list[Any] = []
    monkeypatch.setattr(stages, "learn", lambda *pairs: asked.append(pairs) or Lesson(4, 2))

    result = stages.learn_ranker(bench(cloud), cloud.rounds.get(start(cloud)), {})

    [(features, hardness, losses, audits)] = asked
    assert features.shape == (4, len(FEATURES))
    assert features[:, 0].tolist() == [20, 21, 25, 27]
    assert hardness.tolist() == [0, 1, 0, 0]
    assert losses.tolist() == [20, 21, 0.5, 0.5]
    assert audits.tolist() == [False, False, True, True]
    assert (result["ranker"], result["proven"]) == (None, False)


def test_without_features_nothing_is_learnt(cloud: CloudState) -> None:
    turn = cloud.rounds.get(start(cloud))
    stages.label(bench(cloud), turn, {})
    assert stages.learn_ranker(bench(cloud), turn, {})["pairs"] == 0


def test_the_frames_that_the_ranker_in_use_holds_for_the_hardest_are_labelled(cloud: CloudState) -> None:
    rule = ranker(bias=1.0, loss=-0.02)
    cloud.publisher.publish(
        CAMERA, msgspec.structs.replace(cloud.registry.live()[CAMERA].artefact, ranker=rule), "round"
    )
    with_features(cloud, range(40, 80), float)
    result = stages.label(bench(cloud), cloud.rounds.get(start(cloud)), {})
    losses = [frame.loss for frame in cloud.frames.get(result["candidates"])]
    assert len(losses) == ROUND["kept"] * ROUND["factor"]
    assert losses == sorted(losses)
    assert losses[0] == min(seq for seq in range(40, 80) if not held_out(seq))


def _ids(cloud: CloudState) -> list[str]:
    return [frame_id(EDGE, "boot-1", seq) for seq in range(1, 13)]


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
