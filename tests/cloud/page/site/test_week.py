from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.roster import add_edge
from culling.common.cli import main
from culling.common.wire.transport import new_keypair
from support.browser import Browser, needs_chromium
from support.cloud import CloudState, camera_state
from support.showcase import Showcase

HOSTILE = "<b>ramp</b>"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudState]:
    """Three cameras of two edges: one is lost, one has rounds, one was never heard of; and one of a third edge."""
    found, now = CloudState(tmp_path_factory.mktemp("site")), time.time()
    fleet = Showcase(found, ["gate", "yard"])
    found.enroll("elsewhere", edge="edge-2")
    with found.index.write() as connection:
        add_edge(connection, "edge-x", new_keypair()[0], [HOSTILE], now)
    fleet.add_past(now)
    fleet.add_frames("gate", 6, now)
    fleet.add_rounds("gate", 3, now)
    fleet.add_changes("gate", 2, 4, gone=1)
    found.roster.heard({"gate": camera_state("gate", "gate-3", seen=9)}, now)
    found.roster.heard({"yard": camera_state("yard", "yard-1", seen=9)}, now - 3600)
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(cloud: CloudState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert (
        main(
            ["cloud", "report", "--site", "edge-1", "--site", "edge-x", "--out", str(out), "--config", str(cloud.toml)]
        )
        == 0
    )
    return out / "site.html"


def test_a_site_is_one_page_with_a_line_per_camera_those_first_that_need_somebody(page: Path) -> None:
    text = page.read_text()
    assert "<h1>A week of edge-1, edge-x</h1>" in text
    assert "1 of 3 cameras fine; yard lost" in text
    lines = re.findall(r"<tr><td>(?:<a [^>]*>)?(.*?)(?:</a>)?<br>.*?<span class=\"r\d\">(.*?)</span>", text)
    assert lines == [("yard", "lost"), ("&lt;b&gt;ramp&lt;/b&gt;", "never seen"), ("gate", "fine")]
    assert "elsewhere" not in text
    assert "2 published, 1 refused" in text
    assert re.search(r"0\.\d\d% of 8\d\d,\d00", text), "what left of what was seen in the week"


def test_it_has_every_camera_on_one_axis_and_the_stories_with_what_changed(page: Path) -> None:
    text = page.read_text()
    assert text.count('class="turn ') == 3
    assert text.count('class="turn published"') == 2
    assert text.count('class="left"') > 40, "an hour a bar"
    assert text.count('class="silent"') >= 3, "where nothing was heard, in one piece"
    assert "128 of 512 labelled frames were chosen" in text
    assert "No round started in this week: yard, &lt;b&gt;ramp&lt;/b&gt;." in text
    assert "before: gate-1" in text
    assert "new: gate-3" in text
    assert text.count("data:image/jpeg;base64,") == 3
    assert "1 of the 5 frames is no longer stored" in text


def test_it_is_self_contained_and_escaped(page: Path) -> None:
    text = page.read_text()
    assert "<script" not in text
    assert "<b>ramp" not in text
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)
    assert "http" not in text


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_it_is_read_on_a_phone_and_on_a_desk(page: Path, width: int, dark: bool) -> None:
    browser = Browser(f"file://{page}?", width=width, dark=dark)
    try:
        assert browser.count("tbody tr") == 3
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        drawn = "return document.querySelector('.pair use').getBoundingClientRect().width"
        assert browser.run(drawn) > 100
        sides = "return [...document.querySelectorAll('.pair:first-of-type figure')].map(one => one.offsetTop)"
        assert len(browser.run(sides)) >= 2
        assert browser.complaints() == []
    finally:
        browser.close()


def test_an_edge_without_cameras_and_a_command_without_a_name_are_told_what_to_do(
    cloud: CloudState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--out", str(tmp_path), "--config", str(cloud.toml)]
    assert main(["cloud", "report", "--site", "north", *told]) != 0
    assert "no edge north has a camera; there are edge-1, edge-2, edge-x" in capsys.readouterr().err
    assert main(["cloud", "report", *told]) != 0
    assert "name a camera, or a site: --site NAME" in capsys.readouterr().err
    assert main(["cloud", "report", "gate", "--site", "edge-1", *told]) != 0
