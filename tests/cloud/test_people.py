"""Labels out of a camera and back, as an operator does it: by command, also while the service runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from culling.cloud.people import account
from culling.cloud.store.purge.audit import AUDIT
from culling.common.cli import main
from support.cloud import CAMERA, CloudState, ServiceProcess
from support.reviewing import by_number, reviewing, rows


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state, _ = reviewing(tmp_path)
    yield state
    state.close()


def culling(cloud: CloudState, *arguments: str | Path) -> int:
    return main(["cloud", *map(str, arguments), "--config", str(cloud.toml)])


def audit(cloud: CloudState) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (cloud.data_dir / AUDIT).read_text().splitlines()]


def move_a_box(file: Path, name: str) -> None:
    """As a person does in a label tool: make the boxes of one picture one bus."""
    told = json.loads(file.read_text())
    (image,) = (one["id"] for one in told["images"] if one["file_name"] == f"{name}.jpg")
    bus = next(one["id"] for one in told["categories"] if one["name"] == "bus")
    told["annotations"] = [one for one in told["annotations"] if one["image_id"] != image]
    told["annotations"].append({"id": 999, "image_id": image, "category_id": bus, "bbox": [3, 4, 70, 20]})
    file.write_text(json.dumps(told))


def test_labels_go_out_and_come_back(cloud: CloudState, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "all"
    assert culling(cloud, "export", CAMERA, "--what", "all", "--out", out) == 0
    said = capsys.readouterr()
    assert "exported 10 frames of gate with 15 boxes" in said.out
    assert "export: frame 10/10" in said.err
    assert len(COCO(str(out / "annotations.json")).getImgIds()) == 10
    capsys.readouterr()
    name = by_number(cloud)[3].id
    move_a_box(out / "annotations.json", name)
    assert culling(cloud, "import", CAMERA, out / "annotations.json", "--by", "ann") == 0
    said = capsys.readouterr()
    assert "(COCO): labels of 1 frame of gate are a person's now" in said.out
    assert "9 frames say what their labels say already; --all takes those over too" in said.out
    assert "1 box stuck out of a picture, cut at its edge" in said.out
    assert rows(by_number(cloud)[3].labels) == [(3.0, 4.0, 64.0, 24.0, 1.0, 4)]
    assert culling(cloud, "import", CAMERA, out / "annotations.json", "--by", "ann") == 0
    assert "labels of 0 frames" in capsys.readouterr().out
    exported, imported = audit(cloud)
    assert (exported["event"], exported["frames"], exported["what"]) == ("frames_exported", 10, "all")
    assert (imported["event"], imported["frames"], imported["by"]) == ("labels_imported", 1, "ann")


def test_disputes_are_listed_and_decided(cloud: CloudState, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frames = by_number(cloud)
    assert culling(cloud, "review", CAMERA, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left"] == 5
    assert all(Path(row["path"]).read_bytes().startswith(b"\xff\xd8") for row in found["frames"])
    file = tmp_path / "decisions.json"
    file.write_text(json.dumps([{"id": frames[7].id, "decision": "corrected", "boxes": []}]))
    flags = ["--accept-teacher", frames[1].id, "--accept-student", frames[3].id, "--skip", frames[5].id]
    assert culling(cloud, "review", CAMERA, *flags, "--file", file) == 0
    assert capsys.readouterr().out.startswith("decided 4 frames, 0 as before; 1 are left\nOf the last ")
    assert culling(cloud, "review", CAMERA) == 0
    told = capsys.readouterr().out
    assert frames[9].id in told
    assert "1 car the student has not" in told
    (line,) = audit(cloud)
    assert (line["event"], line["frames"], line["by"]) == ("frames_reviewed", 4, account())
    assert culling(cloud, "review", CAMERA, "--skip", frames[9].id, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("effect")["decided"] == 3, "a skip says nothing"
    assert found == {"decided": 1, "same": 0, "left": 0, "frames": []}
    assert culling(cloud, "review", CAMERA) == 0
    assert "dispute nothing that nobody has looked at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["export", "yard", "--out", "x"], "there is no camera yard"),
        (["export", CAMERA, "--out", "x"], "nothing to export, it has no culled set yet"),
        (["import", CAMERA, "none.json"], "none.json: there is no such file"),
        (["review", CAMERA, "--skip", "x"], "x: names of frames are 32 hex digits"),
        (["review", CAMERA, "--skip", "0" * 32], "has no stored frame"),
        (["review", "yard"], "there is no camera yard"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_3(
    cloud: CloudState, words: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cloud.folder)
    assert culling(cloud, *words) == 3
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1
    assert not (cloud.data_dir / AUDIT).exists()


def test_all_of_it_works_while_the_service_runs(cloud: CloudState, tmp_path: Path) -> None:
    with ServiceProcess(cloud) as service:
        assert culling(cloud, "export", CAMERA, "--what", "all", "--format", "voc", "--out", tmp_path / "voc") == 0
        assert culling(cloud, "import", CAMERA, tmp_path / "voc", "--all") == 0
        assert culling(cloud, "review", CAMERA) == 0
        assert service.terminate() == 0
    assert [one["event"] for one in audit(cloud)] == ["frames_exported", "labels_imported"]
