from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.changed.differ import Different, Pair
from culling.cloud.changed.kept import Changes
from culling.cloud.labelling.queue import LabelQueue
from culling.cloud.store.folders import only_one
from culling.cloud.store.fsck import fsck
from culling.cloud.store.index import changes, frames, ignores, reviews, scores
from culling.cloud.store.lifecycle import PASSED
from culling.cloud.store.people.ignores import enter as ignore
from culling.cloud.store.people.ignores import ignored_in
from culling.cloud.store.people.reviews import Reviews, Said
from culling.cloud.weights.classes import CLASSES
from culling.common.cli import main
from culling.common.errors import StorageError
from culling.common.wire.ignored import place
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, detections, hard_frame, held_out

EDGE = "e" * 40


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    """A camera with three models, two of them of one file, and twelve frames."""
    state = CloudState(tmp_path)
    state.enroll()
    for tag in ("base", "first", "second"):
        state.publisher.publish(CAMERA, state.artefact(tag=tag), "base" if tag == "base" else "manual")
    for seq in range(1, 13):
        state.frames.add(EDGE, *hard_frame(seq))
    yield state
    state.close()


def name(seq: int = 1) -> str:
    return frame_id(EDGE, "boot-1", seq)


def picture(cloud: CloudState, seq: int = 1) -> Path:
    return cloud.frames.path(CAMERA, name(seq))


def change(cloud: CloudState, seq: int = 1, **values: object) -> None:
    with cloud.index.write() as connection:
        connection.execute(frames.update().where(frames.c.id == name(seq)).values(**values))


def state_of(cloud: CloudState, seq: int = 1) -> str:
    with cloud.index.read() as connection:
        return str(connection.execute(sa.select(frames.c.state).where(frames.c.id == name(seq))).scalar())


def model_file(cloud: CloudState, model_id: str) -> Path:
    (model,) = (model for model in cloud.registry.models(CAMERA) if model.model_id == model_id)
    return cloud.files.path(model.artefact.sha256, "onnx")


def test_what_agrees_is_counted_and_changed_by_nothing(cloud: CloudState) -> None:
    for repair in (False, True):
        report = fsck(cloud.settings, repair)
        assert (report.frames, report.models, report.findings) == (12, 3, ())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cloud: picture(cloud).unlink(),
        lambda cloud: picture(cloud).write_bytes(picture(cloud).read_bytes()[:-1]),
        lambda cloud: picture(cloud).write_bytes(picture(cloud, 2).read_bytes()),
        lambda cloud: change(cloud, detections=b"\xc1"),
        lambda cloud: change(cloud, detections=None),
        lambda cloud: change(cloud, labels=b"junk"),
        lambda cloud: change(cloud, ignored=b"junk"),
        lambda cloud: change(cloud, echo=b"junk"),
    ],
    ids=["missing", "torn", "another picture", "detections", "no detections", "labels", "ignored places", "echo"],
)
def test_a_frame_that_cannot_be_used_is_put_aside(cloud: CloudState, spoil: Callable[[CloudState], None]) -> None:
    spoil(cloud)
    (named,) = fsck(cloud.settings).open
    assert name() in named.what
    assert state_of(cloud) == "stored", "looking changes nothing"

    assert fsck(cloud.settings, repair=True).open == ()
    assert state_of(cloud) == "corrupt"
    assert name() in cloud.frames.known([name()]), "its repeat is still acked and not stored again"
    assert fsck(cloud.settings).findings == ()
    assert cloud.frames.counts()[CAMERA].stored == 11


def test_what_a_power_cut_left_is_harmless(cloud: CloudState) -> None:
    orphan, half = picture(cloud).with_name("orphan.jpg"), picture(cloud).with_name(".x.jpg.tmp")
    for path in (orphan, half):
        path.write_bytes(b"half")
    report = fsck(cloud.settings)
    assert len(report.findings) == 2
    assert report.open == ()
    assert orphan.exists()

    fsck(cloud.settings, repair=True)
    assert not orphan.exists()
    assert not half.exists()
    assert fsck(cloud.settings).findings == ()


def test_a_frame_of_a_round_that_is_not_there_waits_for_one_again(cloud: CloudState) -> None:
    trained = next(seq for seq in range(1, 13) if not held_out(seq))
    waiting = cloud.frames.counts()[CAMERA].waiting
    change(cloud, trained, round=99, kept=99)
    assert len(fsck(cloud.settings).open) == 1
    assert fsck(cloud.settings, repair=True).open == ()
    assert cloud.frames.counts()[CAMERA].waiting == waiting


def test_a_frame_that_was_passed_over_is_of_no_round_and_stays_so(cloud: CloudState) -> None:
    change(cloud, round=PASSED)
    assert fsck(cloud.settings, repair=True).findings == ()
    assert cloud.frames.counts()[CAMERA].asking == 11


def test_no_held_out_frame_stays_in_a_culled_set(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    judge = next(seq for seq in range(1, 13) if held_out(seq))
    change(cloud, judge, round=turn.id, kept=turn.id)
    assert "held out" in fsck(cloud.settings).open[0].wrong
    fsck(cloud.settings, repair=True)
    with cloud.index.read() as connection:
        assert connection.execute(sa.select(frames.c.id).where(frames.c.kept.is_not(None))).all() == []
    assert fsck(cloud.settings).findings == ()


def test_a_frame_of_nobodys_camera_is_named(cloud: CloudState) -> None:
    cloud.frames.add(EDGE, *hard_frame(50, "yard"))
    (named,) = fsck(cloud.settings, repair=True).open
    assert "yard" in named.what


def test_a_live_model_that_is_damaged_gives_way_to_the_one_before(cloud: CloudState) -> None:
    model_file(cloud, "gate-3").write_bytes(b"not a model")
    assert len(fsck(cloud.settings).open) == 1
    assert fsck(cloud.settings, repair=True).open == ()
    assert cloud.registry.live_ids()[CAMERA] == "gate-2"
    assert fsck(cloud.settings).findings == ()


@pytest.mark.parametrize("model_id", ["gate-1", "gate-2"])
def test_a_model_to_go_back_to_that_is_damaged_wants_a_backup(cloud: CloudState, model_id: str) -> None:
    model_file(cloud, model_id).unlink()
    (named,) = fsck(cloud.settings, repair=True).open
    assert model_id in named.what
    assert cloud.registry.live_ids()[CAMERA] == "gate-3"


def test_a_base_that_was_signed_anew_and_is_damaged_wants_a_backup(cloud: CloudState) -> None:
    cloud.enroll("yard", edge="edge-2")
    base = cloud.publisher.publish("yard", cloud.artefact(tag="of the yard"), "base")
    cloud.publisher.renew("yard")
    cloud.files.path(base.artefact.sha256, "onnx").write_bytes(b"not a model")
    for repair in (False, True):
        told = [(named.what, named.advice) for named in fsck(cloud.settings, repair).findings]
        assert told == [("model yard-2", "restore it from a backup"), ("model yard-1", "restore it from a backup")]
    assert cloud.registry.live_ids()["yard"] == "yard-2"


def test_a_camera_without_a_model_is_named(cloud: CloudState) -> None:
    cloud.enroll("yard", edge="edge-2")
    (named,) = fsck(cloud.settings, repair=True).open
    assert named.what == "camera yard"


def test_an_index_that_was_lost_costs_no_picture(cloud: CloudState) -> None:
    cloud.close()
    for path in cloud.data_dir.glob("index.sqlite*"):
        path.unlink()
    fsck(cloud.settings, repair=True)
    again = CloudState(cloud.folder)
    assert again.frames.counts()[CAMERA].stored == 12
    assert picture(cloud).exists()
    again.close()


@pytest.mark.embedded
def test_an_index_that_rotted_is_named(cloud: CloudState) -> None:
    cloud.close()
    path = cloud.data_dir / "index.sqlite"
    data = bytearray(path.read_bytes())
    for page in range(8192, len(data) - 4096, 4096):
        data[page : page + 64] = b"\xff" * 64
    path.write_bytes(data)
    (named,) = fsck(cloud.settings, repair=True).open
    assert named.what == "index"


def test_it_wants_the_service_stopped(cloud: CloudState) -> None:
    with only_one(cloud.data_dir), pytest.raises(StorageError, match="stop it first"):
        fsck(cloud.settings)


def test_the_command_names_what_is_wrong_and_ends_with_the_code_of_storage(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["cloud", "fsck", "--config", str(cloud.toml)]
    assert main(command) == 0
    assert "12 frames and 3 models" in capsys.readouterr().out
    picture(cloud).unlink()
    assert main(command) == 7
    told = capsys.readouterr()
    assert name() in told.out
    assert len(told.err.splitlines()) == 1
    assert main([*command, "--repair"]) == 0
    assert main(command) == 0


def test_totals_that_are_wrong_are_counted_anew_and_kept_again(cloud: CloudState) -> None:
    with cloud.index.write() as connection:
        on = " ON frames" if connection.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"DROP TRIGGER totals_insert{on}")
    cloud.frames.add(EDGE, *hard_frame(13))
    (finding,) = fsck(cloud.settings).findings
    assert str(finding).startswith(f"camera {CAMERA}: its totals say stored 12, ")
    assert finding.advice == "--repair: counted anew"
    assert fsck(cloud.settings, repair=True).open == ()
    cloud.frames.add(EDGE, *hard_frame(14))
    assert fsck(cloud.settings).findings == ()
    assert cloud.frames.counts()[CAMERA].stored == 14


def test_the_frames_of_a_camera_that_was_removed_are_no_damage(cloud: CloudState) -> None:
    cloud.roster.remove(CAMERA, cloud.clock.now())
    assert not fsck(cloud.settings).findings


def reviewed(cloud: CloudState, seq: int) -> None:
    said = {name(seq): Said("corrected", detections((1, 1, 9, 9, 0.9, 0)))}
    Reviews(cloud.index).enter(CAMERA, said, "ann", 1.0, lambda count: None)


def alter(cloud: CloudState, *changes: sa.Update | sa.Delete | sa.Insert) -> None:
    with cloud.index.write() as connection:
        for each in changes:
            connection.execute(each)


def test_reviews_that_agree_with_no_frame_are_mended(cloud: CloudState) -> None:
    for seq in range(1, 6):
        reviewed(cloud, seq)
    assert fsck(cloud.settings).findings == ()
    mine = [reviews.update().where(reviews.c.frame == name(seq)) for seq in range(6)]
    alter(
        cloud,
        frames.update().where(frames.c.id == name(1)).values(labels=None),
        mine[2].values(camera="yard"),
        mine[3].values(teacher=b"rot"),
        mine[4].values(frame="f" * 32),
    )
    found = fsck(cloud.settings).open
    assert sorted(finding.wrong for finding in found) == [
        "its frame is gone",
        "its frame is of camera gate",
        "its labels are not there",
        "what the teacher said cannot be read",
    ]
    assert fsck(cloud.settings, repair=True).open == ()
    assert fsck(cloud.settings).findings == ()
    kept = Reviews(cloud.index).of(CAMERA, [name(seq) for seq in range(1, 6)])
    assert kept.keys() == {name(2), name(3), name(5)}


def test_leases_of_a_worker_that_was_killed_are_told_and_end(cloud: CloudState) -> None:
    queue = LabelQueue(cloud.index, cloud.frames, cloud.clock, 1_000_000, "one")
    batch = queue.take(12)
    assert batch is not None
    alter(cloud, frames.update().where(frames.c.id == batch.frames[0].id).values(round=PASSED))
    report = fsck(cloud.settings)
    assert len(report.findings) == len(batch.frames)
    assert report.open == (), "the next start settles them"
    fsck(cloud.settings, repair=True)
    assert fsck(cloud.settings).findings == ()
    assert queue.take(12) is not None, "they go out again"


def test_scores_of_frames_that_are_gone_are_deleted(cloud: CloudState) -> None:
    cloud.lifecycle.score("gate-3", {name(1): detections(), name(2): detections()})
    assert fsck(cloud.settings).findings == ()
    alter(cloud, scores.update().where(scores.c.frame == name(1)).values(frame="f" * 32))
    (finding,) = fsck(cloud.settings).open
    assert "1 of their frames" in finding.wrong
    fsck(cloud.settings, repair=True)
    assert fsck(cloud.settings).findings == ()
    assert cloud.lifecycle.scores("gate-3").keys() == {name(2)}


def test_what_was_kept_of_frames_that_are_gone_or_cannot_be_read_is_deleted(cloud: CloudState) -> None:
    pairs = [Pair(name(seq), 0, detections(), detections()) for seq in (1, 2, 3)]
    Changes(cloud.index).keep(1, CAMERA, [Different(pair, 1.0) for pair in pairs], CLASSES)
    corner = place([(0.1, 0.1), (0.4, 0.1), (0.4, 0.4)], ())
    with cloud.index.write() as connection:
        ignore(connection, CAMERA, {name(1): corner, name(2): corner}, "mia", 1.0)
    assert fsck(cloud.settings).findings == ()
    alter(
        cloud,
        changes.update().where(changes.c.frame == name(1)).values(frame="f" * 32),
        changes.update().where(changes.c.frame == name(2)).values(after=b"rot"),
        ignores.update().where(ignores.c.frame == name(1)).values(frame="f" * 32),
    )
    assert [finding.what for finding in fsck(cloud.settings).open] == [
        "changes between students",
        "places that people had ignored",
        f"change between students of round 1 in frame {name(2)}",
    ]
    fsck(cloud.settings, repair=True)
    assert fsck(cloud.settings).findings == ()
    assert [one.frame for one in Changes(cloud.index).of(1)] == [name(3)]
    assert [one.frame for one in ignored_in(cloud.index, [name(1), name(2)])] == [name(2)]
