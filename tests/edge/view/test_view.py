"""The view of a real agent, over real HTTP: what it shows, what it hides, and regions that it takes while it runs."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.common.cli import main
from culling.common.process.lock import only_one
from culling.edge.reload import LOCK
from culling.edge.status import fetch as fetch_metrics
from support.http import fetch
from support.site import CAMERA, Site
from support.viewing import CROSSED, LEFT, RIGHT, Viewing
from support.waiting import wait_until

NONE: dict[str, Any] = {"mask": [], "ignore": [], "zone": []}
DARK, BRIGHT = 3, 20
"""What is masked is black but for what JPEG makes of it."""


@pytest.fixture
def viewing(tmp_path: Path) -> Iterator[Viewing]:
    found = Viewing(tmp_path, actions=True)
    found.site.install_student()
    yield found
    found.close()


def looked(viewing: Viewing, until: Callable[[Any, Any], bool]) -> tuple[Any, Any]:
    """Look at one picture after another until one is as wanted."""
    found: list[tuple[Any, Any]] = []
    last = 0

    def fits() -> bool:
        nonlocal last
        head, picture = viewing.look(last)
        last = head.number or last
        found.append((head, picture))
        return picture is not None and until(head, picture)

    wait_until(fits)
    return found[-1]


def detected(viewing: Viewing) -> tuple[Any, Any]:
    return looked(viewing, lambda head, _: head.record is not None and bool(head.record.detections))


def counted(viewing: Viewing, series: str) -> float:
    told = fetch_metrics("127.0.0.1", viewing.site.settings["metrics"]["port"])
    [value] = re.findall(rf'^culling_{series}_total{{camera="gate"}} (.+)$', told, re.MULTILINE)
    return float(value)


def test_it_shows_what_the_student_found_in_the_picture_that_it_was_found_in(viewing: Viewing) -> None:
    viewing.start()
    head, picture = detected(viewing)
    assert picture.shape == (128, 160, 3)
    assert head.record.model == "gate-1"
    for one in head.record.detections:
        left, top, right, bottom = map(int, one.box)
        inside = picture[top + 2 : bottom - 2, left + 2 : right - 2].mean() / 255
        assert abs(inside - one.score) < 0.1, "a box's score is its brightness: that of this very picture"


def test_masked_pixels_are_black_before_anybody_sees_them(tmp_path: Path) -> None:
    viewing = Viewing(tmp_path, camera={"mask": [LEFT]})
    viewing.site.install_student()
    viewing.start()
    for _ in range(3):
        _, picture = detected(viewing)
        assert picture[:, :78].max() <= 12
        assert picture[:, 84:].mean() > BRIGHT
    viewing.close()


def test_a_mask_that_is_applied_is_in_every_picture_from_then_on(viewing: Viewing) -> None:
    viewing.start()
    _, picture = detected(viewing)
    assert picture[:, :78].mean() > BRIGHT

    answer = viewing.apply({**NONE, "mask": [LEFT]})
    assert (answer.status, answer.json()) == (200, {"answer": f"changed {CAMERA}"})

    last = 0
    for _ in range(10):  # also the first, which could have been taken before
        head, picture = viewing.look(last)
        last = head.number or last
        assert picture is None or picture[:, :78].mean() < DARK
    assert viewing.regions()["mask"] == [LEFT]


def test_ignored_places_and_zones_are_taken_and_change_the_records(viewing: Viewing) -> None:
    viewing.start()
    detected(viewing)
    regions = {**NONE, "ignore": [{"polygon": LEFT}], "zone": [{"name": "right", "polygon": RIGHT}]}
    assert viewing.apply(regions).status == 200
    head, _ = looked(viewing, lambda head, _: head.record is not None and "right" in head.record.zones)
    sure = [one for one in head.record.detections if one.score >= 0.5]
    assert [one.zones for one in sure] == [("right",)] * len(sure)
    assert sum(head.record.zones["right"].present.values()) == len(sure)


def test_the_rest_of_the_file_stays_as_it_is_and_so_does_who_may_read_it(viewing: Viewing) -> None:
    path = viewing.site.write()
    viewing.start()
    path.write_text("# by hand\n" + path.read_text())
    before = tomllib.loads(path.read_text())
    assert viewing.apply({**NONE, "zone": [{"name": "yard", "polygon": LEFT, "classes": ["person"]}]}).status == 200
    after = tomllib.loads(path.read_text())
    assert after["camera"][0].pop("zone") == [{"name": "yard", "polygon": LEFT, "classes": ["person"]}]
    assert after == before
    assert path.read_text().startswith("# by hand\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_settings_refuse_is_refused_and_nothing_changes(viewing: Viewing) -> None:
    viewing.start()
    before = (viewing.site.folder / "edge.toml").read_bytes()
    for regions, told in (
        ({**NONE, "mask": [CROSSED]}, "camera.0.mask.0: the polygon crosses itself"),
        ({**NONE, "mask": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}, "camera.0: mask: it covers the whole frame"),
        ({**NONE, "zone": [{"name": "a", "polygon": [[0, 0], [640, 0], [1, 1]]}]}, "640 is outside the frame"),
        ({**NONE, "url": "elsewhere"}, "'url' is no kind of region"),
    ):
        answer = viewing.apply(regions)
        assert answer.status == 422
        assert told in answer.json()["error"]
    assert (viewing.site.folder / "edge.toml").read_bytes() == before
    assert viewing.regions() == NONE


def test_two_who_draw_at_a_time_do_not_undo_each_other(viewing: Viewing) -> None:
    viewing.start()
    before = viewing.regions()
    assert viewing.apply({**NONE, "mask": [LEFT]}, before).status == 200
    late = viewing.apply({**NONE, "mask": [RIGHT]}, before)
    assert late.status == 409
    assert "have changed since this page read them" in late.json()["error"]
    path = viewing.site.folder / "edge.toml"
    path.write_text(path.read_text().replace("0.5", "0.4"))  # by hand, and not reloaded yet
    late = viewing.apply({**NONE, "mask": [RIGHT]})
    assert late.status == 409
    assert "have the agent read it anew" in late.json()["error"]


def test_a_camera_without_a_model_can_be_looked_at_and_drawn_on(tmp_path: Path) -> None:
    viewing = Viewing(tmp_path, actions=True)
    viewing.start()
    head, picture = looked(viewing, lambda head, picture: True)
    assert picture.mean() > BRIGHT
    assert head.record is None
    assert "no model yet" in head.why
    assert viewing.apply({**NONE, "mask": [LEFT]}).status == 200
    viewing.close()


def test_frames_are_encoded_only_while_somebody_looks(viewing: Viewing) -> None:
    viewing.start()
    wait_until(lambda: counted(viewing, "frames_inferred") > 10)
    assert counted(viewing, "view_frames") == 0
    detected(viewing)
    assert counted(viewing, "view_frames") > 0


def test_it_is_off_by_default(tmp_path: Path) -> None:
    viewing = Viewing(tmp_path)
    port = viewing.site.settings.pop("view")["port"]
    viewing.start()
    with pytest.raises(ConnectionRefusedError):
        fetch(f"http://127.0.0.1:{port}/")
    assert not (tmp_path / "state" / "view.token").exists()
    viewing.close()


def test_its_token_is_nobody_elses_to_read_and_stands_in_no_log(viewing: Viewing) -> None:
    viewing.start()
    assert stat.S_IMODE((viewing.site.folder / "state" / "view.token").stat().st_mode) == 0o600
    assert viewing.get("api/cameras", X_Culling_Token="wrong").status == 401
    assert viewing.get("api/cameras").status == 200
    assert viewing.token not in viewing.site.log()
    assert '"view_refused"' in viewing.site.log()


@pytest.mark.parametrize(
    ("view", "code", "told"),
    [
        ({"host": "0.0.0.0", "token": False}, 2, "keep the token, or set host to 127.0.0.1"),
        ({"host": "192.0.2.1"}, 2, "view.host, view.port: cannot listen on 192.0.2.1"),
    ],
)
def test_an_agent_whose_view_cannot_be_served_safely_does_not_start(
    tmp_path: Path, view: dict[str, Any], code: int, told: str
) -> None:
    site = Site(tmp_path)
    site.settings["view"] = {"enabled": True, "port": 0, **view}
    command = [sys.executable, "-m", "culling.common.cli", "edge", "run", "--config", str(site.write())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert done.returncode == code
    assert told in done.stderr + done.stdout


def checks(path: Path, capsys: pytest.CaptureFixture[str], **changes: object) -> str:
    """Return the line of `culling edge check` that is about the view."""
    overrides = [word for key, value in changes.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]
    main(["edge", "check", "--config", str(path), *overrides])
    [line] = [line for line in capsys.readouterr().out.splitlines() if " view: " in line]
    return line


def test_check_says_whether_it_can_be_served(
    viewing: Viewing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.edge.check.HANDSHAKE_S", 0.1)
    monkeypatch.setattr("culling.edge.check.MEASURE_S", 0.1)
    path = viewing.site.write()
    assert checks(path, capsys) == f"ok      view: it can be served at {viewing.url}"
    assert checks(path, capsys, view__host="0.0.0.0").startswith("warning view: it can be served at http://0.0.0.0")
    port = viewing.site.settings["view"]["port"]
    with socket.create_server(("127.0.0.1", port)):
        assert checks(path, capsys).startswith(f"failed  view: view.host, view.port: cannot listen on 127.0.0.1:{port}")
    (viewing.site.folder / "state").mkdir()
    with only_one(viewing.site.folder / "state" / LOCK, "agent"):
        assert "not tried: the agent that runs serves it" in checks(path, capsys)
