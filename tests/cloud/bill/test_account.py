from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from culling.cloud.bill.account import round_figures, to_spent, to_told
from culling.cloud.bill.cost import ANSWERS, EDGE, LABELS, PAPER_PASSES, UNKNOWN, Cost, PassCost, StudentCost
from culling.cloud.labelling.escalated import Escalated
from culling.cloud.store.index import frames, history
from culling.cloud.weights.classes import CLASSES
from culling.common.scaler import input_size
from support.billed import LABEL, LEARN, LOOK, Billed
from support.cloud import CAMERA, detections
from support.stored import everything


@pytest.fixture
def billed(tmp_path: Path) -> Iterator[Billed]:
    one = Billed(tmp_path)
    yield one
    one.cloud.close()


def test_a_span_costs_its_passes_and_labels(billed: Billed) -> None:
    billed.label(1, 2, 3)
    billed.look(50, missed=10)
    frame = everything(billed.cloud)[0]
    billed.price_labels()
    told = billed.statement()
    size = input_size(frame.width, frame.height, 1.0, 640)
    assert told.bill.parts[EDGE].gflops == pytest.approx(50 * LOOK.gflops(size))
    assert told.bill.parts[LABELS].gflops == pytest.approx(3 * LABEL)
    assert told.bill.parts[LABELS].seconds == pytest.approx(3 * LABEL * 0.5)
    assert told.frames == 60, "those beyond max_fps did not come to the student"
    full = 60 * (LABEL + PAPER_PASSES * LEARN.gflops(size))
    assert told.full.gflops == pytest.approx(full)
    assert told.row()["ratio"] == pytest.approx(full / told.bill.total.gflops, abs=0.001)


def test_an_answer_to_an_edge_is_on_the_bill_once_though_it_is_a_label_too(billed: Billed) -> None:
    billed.label(1, 2, 3)
    billed.price_labels()
    escalated = Escalated(billed.cloud.index, billed.clock)
    names = [escalated.ask(CAMERA, "boot-1", seq, "a" * 64, b"jpeg", CLASSES, 2.0) for seq in range(5)]
    escalated.answer({name: detections() for name in names if name is not None}, "big")
    with billed.cloud.index.write() as connection:
        connection.execute(frames.update().where(frames.c.seq == 3).values(answered=False))
    told = billed.statement()
    assert told.bill.parts[ANSWERS].gflops == pytest.approx(5 * LABEL)
    assert told.bill.parts[LABELS].gflops == pytest.approx(2 * LABEL)
    assert (told.passes[ANSWERS], told.passes[LABELS]) == (5, 2)
    assert ANSWERS not in billed.statement(since=billed.clock.now() + 60).passes


def test_each_minute_is_priced_at_the_model_that_ran(billed: Billed) -> None:
    billed.label(1)
    billed.look(10)
    before = billed.statement().bill.parts[EDGE].gflops
    cost = StudentCost(PassCost(0.5, 0.0), LEARN)
    smaller = msgspec.structs.replace(billed.cloud.artefact(), cost=cost, scale=0.5)
    model = billed.cloud.publisher.publish(CAMERA, smaller, "manual").model_id
    billed.look(10, model=model)
    assert billed.statement().bill.parts[EDGE].gflops == pytest.approx(before + 10 * 0.5)


def test_a_student_that_was_never_counted_leaves_the_bill_open(billed: Billed) -> None:
    billed.label(1)
    model = billed.cloud.publisher.publish(CAMERA, billed.cloud.artefact(), "manual").model_id
    billed.look(10, model=model)
    row = billed.statement().row()
    assert row["parts"][EDGE] == {"passes": 10, "gflops": None, "seconds": None}
    assert (row["gflops"], row["ratio"], row["ratio_incremental"]) == (None, None, None)


def test_a_camera_that_saw_nothing_costs_nothing(billed: Billed) -> None:
    row = billed.statement().row()
    assert (row["gflops"], row["ratio"], row["full"]["gflops"]) == (0.0, None, 0.0)


def test_minutes_of_an_earlier_version_count_what_was_seen_at_the_student_in_use(billed: Billed) -> None:
    billed.label(1)
    billed.look(10)
    new = billed.statement()
    with billed.cloud.index.write() as connection:
        connection.execute(history.update().values(model=None, taken=None, missed=None))
    old = billed.statement()
    assert old.bill.parts[EDGE].gflops == new.bill.parts[EDGE].gflops
    assert old.frames == 20


def test_a_round_counts_when_it_ends_with_all_that_it_spent_refused_or_not(billed: Billed) -> None:
    billed.label(1)
    for state in ("refused", "failed"):
        turn = billed.cloud.rounds.start(CAMERA, "manual", billed.clock.now())
        spent = {"score": {"seconds": 2.0, "gflops": 3.0}, "train": {"seconds": 5.0, "gflops": 7.0}}
        billed.cloud.rounds.end(turn.id, state, {"spent": spent}, "", billed.clock.now())
    parts = billed.statement().bill.parts
    assert (parts["score"], parts["train"]) == (Cost(4.0, 6.0), Cost(10.0, 14.0))
    assert "train" not in billed.statement(since=billed.clock.now() + 1).bill.parts


def test_rotten_reports_and_those_of_an_earlier_version_cost_nothing(billed: Billed) -> None:
    for report in ({}, {"spent": 5}, {"spent": {"train": 5, "lunch": {"gflops": 1.0}}}):
        turn = billed.cloud.rounds.start(CAMERA, "manual", billed.clock.now())
        billed.cloud.rounds.end(turn.id, "failed", report, "", billed.clock.now())
    assert billed.statement().bill.parts.keys() == {EDGE, LABELS}


def test_a_round_bills_all_that_it_took_to_get_there(billed: Billed) -> None:
    billed.label(1, 2)
    billed.look(30)
    billed.price_labels()
    spent = {"train": Cost(5.0, 7.0), "label": Cost(1.0)}
    first = round_figures(billed.cloud.index, billed.cloud.settings, CAMERA, billed.clock.now(), spent)
    assert first["spent"] == {"train": {"seconds": 5.0, "gflops": 7.0}}, "labels are counted by frames"
    assert first["bill"]["parts"][EDGE]["passes"] == 30
    assert first["bill"]["parts"][LABELS]["passes"] == 2
    parts = first["bill"]["parts"].values()
    assert first["bill"]["gflops"] == pytest.approx(sum(part["gflops"] for part in parts), abs=0.01)

    turn = billed.cloud.rounds.start(CAMERA, "manual", billed.clock.now())
    billed.cloud.rounds.end(turn.id, "refused", first, "", billed.clock.now())
    billed.look(4)
    second = round_figures(billed.cloud.index, billed.cloud.settings, CAMERA, billed.clock.now(), {})
    assert second["bill"]["parts"][EDGE]["passes"] == 4, "only what came since the round before"
    assert second["bill"]["parts"][LABELS]["passes"] == 0


def test_costs_survive_being_written_down() -> None:
    assert to_told(UNKNOWN) == {"seconds": None, "gflops": None}
    assert to_spent({"train": to_told(Cost(1.0, 2.0))}) == {"train": Cost(1.0, 2.0)}
    unknown = to_spent({"gate": to_told(replace(UNKNOWN, seconds=3.0))})["gate"]
    assert (unknown.seconds, unknown.gflops != unknown.gflops) == (3.0, True)
