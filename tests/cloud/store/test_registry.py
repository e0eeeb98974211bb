from __future__ import annotations

import os

import msgspec
import pytest

from culling.cloud.store.index import models
from culling.common.errors import InputError, ModelError
from culling.common.selection.ranker import Ranker
from culling.common.wire.messages import SwapReport
from support.cloud import CAMERA, CloudState
from support.scores import ranker


def publish(cloud: CloudState, tag: str, origin: str = "round") -> str:
    return cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), origin).model_id  # type: ignore[arg-type]


def states(cloud: CloudState) -> dict[str, str]:
    return {model.model_id: model.state for model in cloud.registry.models(CAMERA)}


def test_a_new_model_takes_the_place_of_the_live_one_which_is_kept_for_rollback(cloud: CloudState) -> None:
    for tag in ("base", "a", "b"):
        publish(cloud, tag)
    assert states(cloud) == {"gate-3": "live", "gate-2": "previous", "gate-1": "retired"}
    assert cloud.registry.live_ids() == {CAMERA: "gate-3"}
    assert cloud.registry.live()[CAMERA].counter == 3


def test_only_live_and_previous_models_are_handed_out(cloud: CloudState) -> None:
    for tag in ("base", "a", "b"):
        publish(cloud, tag)
    assert [cloud.registry.find(CAMERA, f"gate-{n}") is not None for n in (1, 2, 3, 4)] == [False, True, True, False]
    assert cloud.registry.find("yard", "gate-3") is None


def test_a_student_that_is_in_use_is_handed_out_by_the_id_before_it_was_signed_anew(cloud: CloudState) -> None:
    publish(cloud, "a", "base")
    first = publish(cloud, "b")
    publish(cloud, "b")
    found = cloud.registry.find(CAMERA, first)
    assert found is not None, "an edge may be fetching it, a round may have begun with it"
    publish(cloud, "c")
    publish(cloud, "d")
    assert cloud.registry.find(CAMERA, first) is None


@pytest.mark.parametrize("rule", [None, ranker(0.5, loss=0.25)])
def test_what_was_published_reads_back_whole(cloud: CloudState, rule: Ranker | None) -> None:
    artefact = msgspec.structs.replace(cloud.artefact(tag="x"), ranker=rule)
    cloud.publisher.publish(CAMERA, artefact, "manual")
    model = cloud.registry.live()[CAMERA]
    assert model.artefact == artefact
    assert (model.origin, model.round) == ("manual", None)


def test_a_rejected_model_gives_way_to_the_one_before(cloud: CloudState) -> None:
    for tag in ("base", "a", "b"):
        publish(cloud, tag)
    assert cloud.registry.withdraw(CAMERA, "gate-3", "rejected")
    assert states(cloud) == {"gate-3": "rejected", "gate-2": "live", "gate-1": "retired"}
    assert not cloud.registry.withdraw(CAMERA, "gate-3", "rejected"), "it is live no more"


def test_when_nothing_else_is_left_the_base_is_live(cloud: CloudState) -> None:
    publish(cloud, "base", "base")
    publish(cloud, "a")
    assert cloud.registry.withdraw(CAMERA, "gate-2", "rejected")
    assert states(cloud) == {"gate-2": "rejected", "gate-1": "live"}
    assert not cloud.registry.withdraw(CAMERA, "gate-1", "rejected")
    assert states(cloud)["gate-1"] == "live"


def test_a_student_that_was_signed_anew_and_is_rejected_gives_way_to_the_one_before_it(cloud: CloudState) -> None:
    publish(cloud, "base", "base")
    for tag in ("a", "b"):
        publish(cloud, tag)
    for renewed in ("gate-4", "gate-5"):
        assert cloud.publisher.renew(CAMERA).model_id == renewed
        assert cloud.registry.fallback(CAMERA).model_id == "gate-2", "the way back stays"
    assert cloud.registry.withdraw(CAMERA, "gate-5", "rejected")
    assert states(cloud) == {
        "gate-5": "rejected",
        "gate-4": "retired",
        "gate-3": "retired",
        "gate-2": "live",
        "gate-1": "retired",
    }


def test_a_student_is_not_taken_back_to_itself_where_an_earlier_version_kept_its_earlier_id(cloud: CloudState) -> None:
    publish(cloud, "base", "base")
    publish(cloud, "a")
    cloud.publisher.renew(CAMERA)
    with cloud.index.write() as connection:
        connection.execute(models.update().where(models.c.model_id == "gate-2").values(state="previous"))
    assert cloud.registry.withdraw(CAMERA, "gate-3", "rejected")
    assert cloud.registry.live_ids() == {CAMERA: "gate-1"}


def test_the_base_is_not_withdrawn_since_it_was_signed_anew(cloud: CloudState) -> None:
    publish(cloud, "base", "base")
    cloud.publisher.renew(CAMERA)
    assert not cloud.registry.withdraw(CAMERA, "gate-2", "rejected")
    assert cloud.registry.live_ids() == {CAMERA: "gate-2"}


def test_nobody_goes_back_to_a_student_that_was_rejected_after_the_next_one_was_published(cloud: CloudState) -> None:
    """An edge's verdict takes the time of a download and a probation."""
    publish(cloud, "base", "base")
    for tag in ("a", "b"):
        publish(cloud, tag)
    assert not cloud.registry.withdraw(CAMERA, "gate-2", "rejected"), "it is live no more"
    assert states(cloud) == {"gate-3": "live", "gate-2": "rejected", "gate-1": "retired"}
    assert cloud.registry.fallback(CAMERA).model_id == "gate-1"
    assert cloud.registry.withdraw(CAMERA, "gate-3", "rejected")
    assert cloud.registry.live_ids() == {CAMERA: "gate-1"}


def test_counters_rise_also_over_rejected_models(cloud: CloudState) -> None:
    publish(cloud, "base", "base")
    publish(cloud, "a")
    cloud.registry.withdraw(CAMERA, "gate-2", "rejected")
    assert publish(cloud, "b") == "gate-3"


def test_a_rollback_goes_to_the_previous_model_else_to_the_base(cloud: CloudState) -> None:
    publish(cloud, "base", "base")
    with pytest.raises(InputError, match="no earlier model"):
        cloud.registry.fallback(CAMERA)
    assert cloud.registry.fallbacks() == {}
    for tag in ("a", "b"):
        publish(cloud, tag)
    assert cloud.registry.fallback(CAMERA).model_id == "gate-2"
    assert cloud.registry.fallbacks() == {CAMERA: "gate-2"}
    cloud.publisher.rollback(CAMERA)
    assert cloud.registry.fallback(CAMERA).model_id == "gate-1"
    assert cloud.registry.fallbacks() == {CAMERA: "gate-1"}


def test_an_unknown_camera_has_nothing_to_go_back_to(cloud: CloudState) -> None:
    with pytest.raises(InputError, match="no camera yard"):
        cloud.registry.fallback("yard")


def test_a_swap_is_told_once(cloud: CloudState) -> None:
    swap = SwapReport(CAMERA, "gate-2", "gate-1", "live", "", 12.5, 100.0)
    assert cloud.registry.report(swap, 101.0)
    assert not cloud.registry.report(swap, 105.0)
    assert cloud.registry.swaps() == {"gate/gate-2": swap}


def test_the_first_verdict_on_a_model_is_the_one_shown(cloud: CloudState) -> None:
    first = SwapReport(CAMERA, "gate-2", "gate-1", "rolled-back", "slow", 12.5, 100.0)
    later = SwapReport(CAMERA, "gate-2", "gate-1", "rejected", "refused-before", 0.0, 200.0)
    for swap in (first, later):
        cloud.registry.report(swap, 300.0)
    assert cloud.registry.swaps() == {"gate/gate-2": first}


def test_files_are_named_by_their_content_and_checked_when_read(cloud: CloudState) -> None:
    sha256 = cloud.files.add(b"some model", "onnx")
    assert cloud.files.read(sha256) == b"some model"
    assert cloud.files.piece(sha256, 5, 100) == b"model"
    cloud.files.path(sha256, "onnx").write_bytes(b"some modem")
    with pytest.raises(ModelError, match="damaged"):
        cloud.files.read(sha256)


def test_a_damaged_file_is_not_handed_out_piece_by_piece(cloud: CloudState) -> None:
    sha256 = cloud.files.add(b"some model", "onnx")
    cloud.files.path(sha256, "onnx").write_bytes(b"some modem")
    with pytest.raises(ModelError, match="damaged"):
        cloud.files.piece(sha256, 0, 4)


def test_a_missing_file_is_a_model_error(cloud: CloudState) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        cloud.files.read("0" * 64)
    sha256 = cloud.files.add(b"some model", "onnx")
    cloud.files.piece(sha256, 0, 1)
    cloud.files.path(sha256, "onnx").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        cloud.files.piece(sha256, 0, 1)


def test_only_old_files_that_nothing_needs_are_removed(cloud: CloudState) -> None:
    for tag, origin in (("base", "base"), ("a", "round"), ("b", "round"), ("c", "round")):
        publish(cloud, tag, origin)
    unknown = cloud.files.add(b"begun by a round", "onnx")
    needed = cloud.registry.wanted_files()
    assert len(needed) == 3, "live, previous and base"
    assert cloud.files.prune(needed, before=0.0) == 0
    later = max(path.stat().st_mtime for path in (cloud.data_dir / "models").iterdir()) + 1
    fresh = cloud.files.add(b"just made", "onnx")
    os.utime(cloud.files.path(fresh, "onnx"), (later + 1, later + 1))
    assert cloud.files.prune(needed, before=later) == 2
    assert not cloud.files.path(unknown, "onnx").exists()
    assert cloud.files.path(fresh, "onnx").exists()


def test_the_zoo_has_earlier_students_that_nobody_turned_down_and_their_files_are_kept(cloud: CloudState) -> None:
    publish(cloud, "base", "base")
    made = []
    for tag in "abcde":
        weights = cloud.files.add(tag.encode(), "safetensors")
        artefact = msgspec.structs.replace(cloud.artefact(tag=tag), weights=weights)
        made.append(cloud.publisher.publish(CAMERA, artefact, "round"))
        if tag == "c":
            cloud.publisher.rollback(CAMERA)  # to b, which has its place
        with cloud.index.write() as connection:
            connection.execute(models.update().values(created=models.c.created - 3600.0))
    assert cloud.registry.zoo(9, 0.0).keys() == {CAMERA}
    found = cloud.registry.zoo(9, 0.0)[CAMERA]
    assert [one.name for one in found] == ["gate-6", "gate-5", "gate-2"], "d, b again, a"
    assert [one.name for one in cloud.registry.zoo(2, 0.0, CAMERA)[CAMERA]] == ["gate-6", "gate-5"]
    assert cloud.registry.zoo(9, found[0].created, CAMERA)[CAMERA] == found[:1]
    assert cloud.registry.zoo(9, 0.0, "yard") == {}
    (oldest,) = (one for one in made if one.model_id == "gate-2")
    files = {oldest.artefact.sha256, oldest.artefact.weights}
    assert files <= cloud.registry.wanted_files(found)
    assert not files & cloud.registry.wanted_files()


def test_a_file_that_a_running_round_or_an_open_request_names_is_needed(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    trained, asked = cloud.files.add(b"trained", "safetensors"), cloud.files.add(b"to be published", "onnx")
    cloud.rounds.save_stage(turn.id, "train", {"weights": trained})
    request = cloud.requests.ask("publish", CAMERA, 1.0, {"sha256": asked})
    assert {trained, asked} <= cloud.registry.wanted_files()
    cloud.rounds.end(turn.id, "failed", {}, "", 2.0)
    cloud.requests.answer(request, "done", False, 2.0)
    assert not {trained, asked} & cloud.registry.wanted_files()
