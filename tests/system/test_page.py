"""The page as a person meets it: a real service, real edges' ends of the link, and a real browser."""

from __future__ import annotations

import json
import re
import resource
import socket
import statistics
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from culling.cloud.page.dashboard import Dashboard
from culling.cloud.store.people.ignores import ignored_in
from culling.cloud.store.people.reviews import Reviews, Said
from culling.cloud.store.roster import add_edge
from culling.cloud.weights.classes import CLASSES
from culling.common.clock import SystemClock
from culling.common.metrics import Metrics
from culling.common.wire.messages import Ack, Desired, Hello, SwapReport, Welcome
from culling.common.wire.transport import new_keypair
from support.browser import Browser, needs_chromium
from support.cloud import CAMERA, CloudState, Edge, ServiceProcess, camera_state, hard_frame, hello
from support.showcase import Showcase
from support.site import free_port
from support.waiting import wait_until

RATE = f"[data-camera={CAMERA}] .rate .v"
BOXES = "[document.documentElement, ...document.querySelectorAll('.scroll')]"
WIDER = f"return {BOXES}.filter(one => one.scrollWidth > one.clientWidth)"
WATCHERS = 1000
HOSTILE = "<script>document.title='owned'</script>"


class Watching:
    """A service with a page, one edge, and a browser in front."""

    def __init__(self, folder: Path) -> None:
        self.cloud = CloudState(folder, schedule={"hold": True}, page={"port": free_port(), "actions": True})
        self.fleet = Showcase(self.cloud, [CAMERA])
        now = time.time()
        self.fleet.add_past(now)
        self.fleet.add_frames(CAMERA, 6, now)
        self.fleet.add_rounds(CAMERA, 2, now)
        with self.cloud.index.write() as connection:
            add_edge(connection, "edge-x", new_keypair()[0], [HOSTILE], now)
        self.seen, self.hard = 1000, 10
        self.service = ServiceProcess(self.cloud)
        self.url = (self.cloud.data_dir / "page").read_text().strip()
        self.edge = self._connect()
        self.token = (self.cloud.data_dir / "page.token").read_text().strip()

    @cached_property
    def browser(self) -> Browser:
        return Browser(self.url)

    def _connect(self) -> Edge:
        edge = Edge(self.service.endpoint, self.cloud.keys.curve_public, self.fleet.secrets[0])
        edge.ask(self.beat(), Welcome)
        wait_until(self._is_shown)  # the edge is welcomed before the page is told
        return edge

    def _is_shown(self) -> bool:
        with urlopen(f"{self.url}/api/fleet") as told:
            rows = {row["camera"]: row for row in json.load(told)["cameras"]}
        return CAMERA in rows and rows[CAMERA]["seen"] == self.seen

    def beat(self, seen: int = 0, hard: int = 0, **state: Any) -> Hello:
        """Return what the edge says after `seen` more frames: its counters never fall, whichever test came before."""
        self.seen, self.hard = self.seen + seen, self.hard + hard
        return hello(camera_state(seen=self.seen, forwarded={"hard": self.hard}, **state))

    def restart(self) -> None:
        """Bring a killed service back on the same port, and its edge with it."""
        self.edge.close()
        self.service = ServiceProcess(self.cloud)
        self.edge = self._connect()

    def close(self) -> None:
        if "browser" in self.__dict__:
            self.browser.close()
        self.edge.close()
        self.service.kill()
        self.cloud.close()


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    """A service, an edge and a browser of the test's own: what another did to the camera would be a surprise."""
    found = Watching(tmp_path)
    yield found
    found.close()


@needs_chromium
def test_figures_move_while_frames_flow_without_a_reload(watching: Watching) -> None:
    browser = watching.browser
    browser.go("")
    browser.wait(
        lambda: browser.run("return state.cameras.get('gate')?.seen") == watching.seen
    )  # what a rate rises from
    browser.run("window.sameDocument = true")
    shown = [""]
    for beat in range(1, 4):
        watching.edge.send(watching.beat(seen=1000, hard=7 * beat * beat))
        browser.wait(lambda: (rate := browser.text(RATE)).endswith("%") and rate not in shown)
        shown.append(browser.text(RATE))
    assert browser.run("return window.sameDocument")


@needs_chromium
def test_the_fleet_is_summed_up_and_cameras_share_one_scale(watching: Watching) -> None:
    browser = watching.browser
    browser.go("")
    watching.edge.send(watching.beat(seen=1000, hard=10, spool_bytes=2_000_000_000))
    browser.wait(lambda: "2.0 GB at the edges" in browser.text(".totals"))
    assert browser.text(".told") == f"1 of 2 cameras fine; {HOSTILE} never seen"
    day = [
        {"t": int(time.time()) - 1800 * ago, "seen": 1000, "audit": 0, "bootstrap": 0, "manual": 0} for ago in range(9)
    ]
    sparks = {CAMERA: [{**slot, "hard": 1} for slot in day], HOSTILE: [{**slot, "hard": 4} for slot in day]}
    browser.run("state.sparks = arguments[0]; state.view.news({ cameras: [], sparks: state.sparks })", sparks)
    bars = "[...document.querySelectorAll(`.virtual .cam:nth-child(${arguments[0]}) .spark .hard`)]"
    tall = f"return Math.max(...{bars}.map(one => one.height.baseVal.value))"
    heights = sorted(browser.run(tall, row) for row in (1, 2))
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.01)
    assert "full height 0.4 %" in browser.text(".legend")
    browser.run("location.reload()")


@needs_chromium
def test_a_camera_whose_frames_are_mostly_missed_is_not_shown_as_well(watching: Watching) -> None:
    browser = watching.browser
    browser.go("")
    for newer in (0, 950, 1900):
        watching.edge.send(watching.beat(seen=1000, dropped={"newer": newer}))
        browser.wait(lambda: browser.run("return state.cameras.get('gate')?.seen") == watching.seen)
    browser.wait(lambda: browser.text(f"[data-camera={CAMERA}] .word") == "too slow")
    assert re.fullmatch(r"0 of [\d.]+ frames/s", browser.text(f"[data-camera={CAMERA}] .pace .v"))
    assert browser.text(".told").startswith(f"0 of 2 cameras fine; {CAMERA} too slow for")
    assert "0 of 1 students keep up" in browser.text(".totals")
    browser.go(f"camera/{CAMERA}")
    browser.wait(lambda: "set the camera's max_fps to" in browser.text(".slow"))
    assert browser.text(".answers [data-k='keeping up']").endswith(" frames/s")


@needs_chromium
def test_tiles_or_rows_is_a_choice_that_the_browser_remembers(watching: Watching) -> None:
    browser = watching.browser
    browser.go("")
    browser.click("tiles")
    browser.wait(lambda: browser.count(".virtual.tiles .cam") == 2)
    browser.run("location.reload()")
    browser.wait(lambda: browser.count(".virtual.tiles .cam .pic .over"))  # the last picture, with boxes
    browser.click("rows")
    browser.wait(lambda: browser.count(".virtual.rows .cam") == 2)
    browser.click("group by edge")
    heads = "return [...document.querySelectorAll('.group')].map(one => one.textContent.split(':')[0])"
    browser.wait(lambda: browser.run(heads) == ["edge-x", "edge-1"])  # that which needs somebody first
    browser.click("group by edge")


@needs_chromium
def test_two_thousand_cameras_are_scrolled_without_a_stutter(watching: Watching) -> None:
    browser = Browser(watching.url)
    try:
        browser.wait(lambda: browser.count(".virtual .cam") == 2)
        many = (
            "const one = state.cameras.get('gate'), cameras = Array.from({ length: 2000 },"
            " (_, at) => ({ ...one, camera: `camera-${at + 1}` }));"
            "take({ now: now(), all: true, cameras }); return document.querySelectorAll('.virtual .cam').length"
        )
        assert 0 < browser.run(many) < 60
        scroll = (
            "const done = arguments[0], gaps = [], spent = [], ask = requestAnimationFrame; let last = 0;"
            "window.requestAnimationFrame = draw => ask(at => {"
            " const from = performance.now(); draw(at); spent.push(performance.now() - from) });"
            "const half = list => list.sort((a, b) => a - b)[list.length >> 1];"
            "const step = at => { if (last) gaps.push(at - last); last = at; scrollBy(0, 900);"
            " gaps.length < 60 ? ask(step) : done([half(gaps), half(spent)]) };"
            "ask(step)"
        )
        frame, ours = browser.driver.execute_async_script(scroll)
        print(f"half of the frames within {frame:.0f} ms, of which the page draws for {ours:.1f} ms")
        assert ours < 20  # of 20 ms a frame at 50 a second; the rest is the machine's
        assert "camera-" in browser.run("return document.querySelector('.virtual .cam:last-child').dataset.camera")
    finally:
        browser.close()


@needs_chromium
def test_what_one_of_two_thousand_cameras_says_is_on_the_screen_within_a_second(tmp_path: Path) -> None:
    cloud, names = CloudState(tmp_path, page={"port": free_port()}), [f"camera-{at:04d}" for at in range(2000)]
    for start in range(0, len(names), 50):
        with cloud.index.write() as connection:
            add_edge(connection, f"edge-{start // 50}", new_keypair()[0], names[start : start + 50], time.time())
    told = {name: (camera_state(name, seen=1000), time.time()) for name in names}
    page = Dashboard(
        cloud.settings, cloud.index, cloud.frames, lambda: told, SystemClock(), Metrics(CollectorRegistry(), "cloud")
    )
    browser = Browser(page.url)
    watch = (
        "window.drawn = 0; (function look() { state.cameras.get('camera-0000')?.seen === arguments[0]"
        " ? requestAnimationFrame(() => { window.drawn = Date.now() / 1000 }) : setTimeout(look, 5, arguments[0]) })"
        "(arguments[0])"
    )
    took = []
    try:
        browser.wait(lambda: browser.run("return state.cameras.size") == len(names))
        for beat in range(1, 12):
            browser.run(watch, 1000 + beat)
            at = time.time()
            told.update({name: (camera_state(name, seen=1000 + beat), at) for name in names[:50]})  # one edge's
            browser.wait(lambda: browser.run("return window.drawn"))
            took.append(browser.run("return window.drawn") - at)
        print(f"from event to pixel: median {statistics.median(took):.2f} s, most {max(took):.2f} s")
        assert statistics.median(took) < 1
    finally:
        browser.close()
        page.close()
        cloud.close()


@needs_chromium
def test_an_empty_fleet_is_one_sentence(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path, page={"port": free_port()})
    page = Dashboard(
        cloud.settings, cloud.index, cloud.frames, dict, SystemClock(), Metrics(CollectorRegistry(), "cloud")
    )
    browser = Browser(page.url)
    try:
        browser.wait(
            lambda: browser.text("main").endswith(
                "No camera is enrolled yet: run culling cloud enroll EDGE CAMERA --out KIT"
            )
        )
        seen = "[...document.querySelectorAll('main *')].filter(one => one.offsetHeight && one.textContent)"
        shown = f"return {seen}.map(one => one.tagName)"
        assert browser.run(shown) == ["DIV", "P"]
    finally:
        browser.close()
        page.close()
        cloud.close()


@needs_chromium
def test_a_swap_is_marked_on_the_chart(watching: Watching) -> None:
    browser = watching.browser
    browser.go(f"camera/{CAMERA}")
    browser.wait(lambda: browser.count("svg .axis"))
    before = browser.count("g.swap")
    watching.edge.send(SwapReport(CAMERA, "gate-2", "gate-1", "live", "", 33.0, time.time() - 120))
    browser.wait(lambda: browser.count("g.swap") == before + 1)


@needs_chromium
def test_the_day_is_one_timeline_that_is_read_with_the_keyboard(watching: Watching) -> None:
    browser = watching.browser
    browser.go(f"camera/{CAMERA}")
    browser.wait(lambda: browser.count(".timeline svg .hard"))
    assert browser.text(".panel .today") == "In 6 forwarded frames: 6 person."
    assert browser.count(".timeline .turn") == 2
    press = (
        "for (const key of arguments[0]) document.querySelector('.timeline')"
        ".dispatchEvent(new KeyboardEvent('keydown', { key }));"
        "return document.querySelector('.readout').textContent"
    )
    told = browser.run(press, ["End", "ArrowLeft"])
    assert re.match(r"\d\d:\d\d to \d\d:\d\d: \d.* % of [\d,]+ frames forwarded", told)
    whole = browser.run("return document.querySelector('.readout').textContent")
    browser.run(press, ["+", "+", "+"])
    assert browser.run("return document.querySelector('.readout').textContent") != whole  # a narrower bin
    browser.run(press, ["0"])


@needs_chromium
def test_the_questions_of_a_camera_are_answered_on_its_page(watching: Watching) -> None:
    browser = watching.browser
    browser.go(f"camera/{CAMERA}")
    browser.wait(lambda: browser.count(".look .over"))
    asked = "return [...document.querySelectorAll('.answers dt')].map(one => one.textContent)"
    wanted = ["keeping up", "accuracy", "last new model", "forwarded", "rounds", "model", "link", "24 h cost"]
    assert browser.run(asked) == wanted
    assert browser.text(".answers [data-k='last new model']") == "+0.03 AP50"
    assert browser.text(".answers [data-k=link]").startswith("heard of")


@needs_chromium
def test_an_action_reaches_the_edge_and_its_effect_is_shown(watching: Watching) -> None:
    browser = watching.browser
    browser.go(f"camera/{CAMERA}")
    browser.click("unlock …")
    browser.run("document.querySelector('dialog input').value = 'nonsense'")
    browser.click("ok")
    browser.wait(lambda: browser.text("dialog p").startswith("Wrong token. Token (the line in page.token of the"))
    browser.run("document.querySelector('dialog input').value = arguments[0]", watching.token)
    browser.click("ok")
    browser.click("pause forwarding")
    browser.click("ok")
    desired, _ = watching.edge.receive(Desired, within_s=30, beat=watching.beat(seen=1))
    assert (desired.camera, desired.paused) == (CAMERA, True)
    browser.wait(lambda: "its edge has not said so yet" in browser.text("h1 + p"))
    watching.edge.send(watching.beat(seen=1, paused=True))
    browser.wait(lambda: re.match("paused.*chooses no frames ·", browser.text("h1 + p")))
    browser.click("resume forwarding")
    browser.wait(lambda: "forward frames again" in browser.text(".answer"))


@needs_chromium
def test_who_goes_back_is_told_before_what_happens_and_the_page_says_so_afterwards(watching: Watching) -> None:
    browser = watching.browser
    newest, before = f"{CAMERA}-3", f"{CAMERA}-2"
    browser.go(f"camera/{CAMERA}/models")
    browser.run("state.token = arguments[0]; route()", watching.token)
    browser.click("go back")
    asked = browser.text("dialog p")
    assert asked.startswith(f"Go back to {before}? The edge downloads ")
    assert asked.endswith(f" {newest} is never used again.")
    browser.click("cancel")
    browser.click("roll back")
    asked = browser.text("dialog p")
    assert asked.startswith(f"Roll {CAMERA} back from {newest} to {before}? The edge downloads {before}, tries it")
    assert asked.endswith(f" {newest} is never used again.")
    browser.click("ok")
    again = f"{CAMERA}-4"  # the one before, signed anew
    browser.wait(lambda: browser.text(".answer").startswith(f"rollback: {again} is offered"))
    watching.edge.send(watching.beat(seen=1, model_id=again))
    browser.go(f"camera/{CAMERA}")
    browser.wait(lambda: browser.text(".answers [data-k='last new model']") == "not in use any more")
    assert newest not in browser.text(".answers [data-k=model]")
    watching.edge.send(SwapReport(CAMERA, again, newest, "live", "", 33.0, time.time()))
    came = rf"{newest} came .*: \+0.030 by its gate \(.*\); it was gone back from at "
    browser.wait(lambda: re.match(came, browser.text(".answers dd:has([data-k='last new model']) .sub")))
    browser.go(f"camera/{CAMERA}/models")
    browser.wait(lambda: browser.count(".models tbody tr") == 4)
    cells = browser.run(
        "return [...document.querySelectorAll('.models tbody tr')].map(row => [...row.children].map(cell =>"
        " [...cell.querySelectorAll('button')].map(one => one.textContent).join() || cell.textContent))"
    )
    twin, revoked, *_ = cells
    assert (twin[1], twin[3], twin[4], twin[8]) == ("live", "0.580 +0.030", f"rollback, same file as {before}", "pin")
    assert revoked[1] == "revoked"
    assert revoked[8].strip() == "", "it is offered neither to publish nor to pin"
    assert browser.count(".rise") == 3
    chosen = "return [...document.querySelectorAll('.pair select')].map(one => one.value)"
    assert browser.run(chosen) == [again, newest]
    browser.go(f"camera/{CAMERA}/rounds")
    browser.wait(lambda: f"{newest} went live at the edge at" in browser.text(".story"))
    assert "; it was gone back from at " in browser.text(".story")


@needs_chromium
def test_hard_frames_rounds_and_models_are_shown(watching: Watching) -> None:
    browser = watching.browser
    browser.go(f"camera/{CAMERA}/frames")
    browser.wait(lambda: browser.count("figure.frame") == 6)
    loaded = "return [...document.images].filter(one => one.complete && one.naturalWidth === 320).length"
    browser.wait(lambda: browser.run(loaded))
    assert browser.count(".over .s") == 12
    assert browser.count(".over .t")
    browser.go(f"camera/{CAMERA}/rounds")
    browser.wait(lambda: browser.count("section.round") == 2)
    story = browser.run("return [...document.querySelectorAll('.story')].map(one => one.textContent)")[0]
    assert "128 of 512 labelled frames were chosen, with 42 of earlier rounds." in story
    assert "AP50 0.580 → 0.610 (+0.030) on 64 held-out frames." in story
    assert "It cost 2.51 PFLOP" in story
    browser.run("for (const one of document.querySelectorAll('.round details')) one.open = true")
    browser.wait(lambda: browser.count("polyline.curve") == 4)
    browser.go(f"camera/{CAMERA}/models")
    browser.wait(lambda: browser.count(".models tbody tr") == 3)
    assert browser.run("return document.querySelector('.models [data-k=AP50]').textContent") == "0.610 +0.030"
    assert browser.count(".rise") == 2


@needs_chromium
def test_what_changed_by_a_round_is_compared_with_a_slider_and_the_next_frame_is_a_key_away(watching: Watching) -> None:
    watching.fleet.add_changes(CAMERA, 2, 3, gone=1)
    for width in (390, 1280):
        browser = Browser(watching.url, width=width)
        try:
            _assert_compared(browser)
        finally:
            browser.close()


def _assert_compared(browser: Browser) -> None:
    browser.go(f"camera/{CAMERA}/rounds")
    browser.wait(lambda: browser.count(".changed .wipe") == 3)
    assert browser.count("section.changed") == 1, "a round of an earlier version has none"
    assert "1 of the 4 frames is no longer stored: retention, a quota or a purge" in browser.text(".changed p")
    browser.run("document.querySelector('.changed .wipe').click()")
    told = "of 2 labelled objects the student before found 1, the new one 2; boxes where nothing is labelled: 1"
    assert browser.text("dialog [role=status] p").startswith(told)
    assert browser.text("dialog .sides") == "← gate-1gate-3 →"
    assert browser.count("dialog .old rect.s") == browser.count("dialog .new rect.n") == 2
    assert browser.count("dialog .over rect.t") == 2
    shown = "const one = document.querySelector(arguments[0]); return getComputedStyle(one).clipPath"
    half = [browser.run(shown, f"dialog .{side}") for side in ("old", "new")]
    slide = browser.driver.find_element("css selector", "dialog input[type=range]")
    slide.send_keys(Keys.HOME)
    assert [browser.run(shown, f"dialog .{side}") for side in ("old", "new")] != half
    assert browser.run(shown, "dialog .old") == "inset(0px 100% 0px 0px)"
    assert slide.get_attribute("aria-valuetext") == "0 % gate-1, 100 % gate-3"
    slide.send_keys("n")
    assert "2 of 3" in browser.text("dialog .bar")
    browser.driver.switch_to.active_element.send_keys("pp")
    assert "3 of 3" in browser.text("dialog .bar")
    assert browser.run(WIDER) == []
    assert browser.run("return document.querySelector('dialog').scrollWidth <= innerWidth")


@needs_chromium
def test_a_hard_frame_says_why_it_was_hard_and_the_next_one_is_a_key_away(watching: Watching) -> None:
    browser = watching.browser
    browser.go(f"camera/{CAMERA}/frames")
    browser.wait(lambda: browser.count("figure.frame") == 6)
    words = browser.run("return [...document.querySelectorAll('.why')].map(one => one.textContent)")
    assert any("the teacher sees 1 person, 1 car more; the student sees 1 person" in told for told in words[:4])
    assert all(told.endswith("the teacher has not looked yet") for told in words[4:])  # labelled ones come first
    browser.run("document.querySelector('figure.frame button').click()")
    assert browser.text("dialog .bar").startswith("studentteachera person1 of 6")
    assert browser.count("dialog .over text.s")  # class and score stand on the box
    browser.run("document.querySelector('dialog').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }))")
    assert "2 of 6" in browser.text("dialog .bar")
    browser.go("rounds")
    browser.wait(lambda: not browser.run("return document.querySelector('dialog').open"))
    browser.go(f"camera/{CAMERA}/frames")
    browser.wait(lambda: browser.count("figure.frame") == 6)
    before = browser.count(".gallery .over .s")
    browser.run(
        "const slide = document.querySelector('input[type=range]'); slide.value = 0.5;"
        "slide.dispatchEvent(new Event('input'))"
    )
    assert browser.count(".gallery .over .s") < before


@needs_chromium
def test_disputes_are_decided_with_the_keyboard_and_boxes_are_drawn_with_the_mouse(watching: Watching) -> None:
    browser = watching.browser
    browser.go(f"camera/{CAMERA}/review")
    browser.run("state.token = arguments[0]; route()", watching.token)
    browser.wait(lambda: browser.text(".review [role=status]").startswith("4 frames in dispute"))
    shown = "return document.querySelector('.review img').src.split('/').pop().split('.')[0]"
    first = browser.run(shown)
    press = (
        "document.querySelector('.review .pic')"
        ".dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true }))"
    )
    browser.run(press, "t")
    browser.wait(lambda: browser.text(".review .answer") == "labelled: the teacher's boxes")
    browser.wait(lambda: browser.run(shown) != first)
    second = browser.run(shown)
    browser.run(press, "e")
    assert browser.count(".editing rect.p") == 2  # it begins with the teacher's
    for key in ("d", "d", "u", "d"):  # what was taken back is done again
        browser.run(press, key)
    assert browser.count(".editing rect.p") == 0
    browser.run("document.querySelector('.review .pic').scrollIntoView({ block: 'center' })")
    stage = browser.driver.find_element("css selector", ".review .pic")
    drag = ActionChains(browser.driver).move_to_element_with_offset(stage, -80, -60).click_and_hold()
    drag.move_by_offset(120, 90).release().perform()
    assert browser.count(".editing rect.p") == 1
    browser.run(
        "const field = document.querySelector('.review > input'); field.value = 'car';"
        "field.dispatchEvent(new Event('change'))"
    )
    browser.run(press, "Enter")
    browser.wait(lambda: browser.text(".review .answer") == "labelled: 1 box of yours")
    assert browser.text(".review [role=status]").startswith("2 frames in dispute")
    said = Reviews(watching.cloud.index).of(CAMERA, [first, second])
    assert {name: one.decision for name, one in said.items()} == {first: "teacher", second: "corrected"}
    third = browser.run(shown)
    Reviews(watching.cloud.index).enter(CAMERA, {third: Said("skipped")}, "somebody else", time.time(), lambda _: None)
    browser.run(press, "t")
    refused = rf"frame {third}: somebody decided this frame at \d\d:\d\d: look again"
    browser.wait(lambda: re.fullmatch(refused, browser.text(".review .answer")))
    browser.wait(lambda: browser.text(".review [role=status]").startswith("1 frame in dispute"))
    assert browser.run(shown) not in (first, second, third), "the list came anew"
    browser.run(press, "t")
    browser.wait(lambda: browser.text(".review [role=status]").startswith("Teacher and student dispute no frame"))
    row = next(one for one in watching.cloud.frames.get([second]))
    assert row.labels is not None
    assert [CLASSES[label] for label in row.labels.labels] == ["car"]
    x1, y1, x2, y2 = row.labels.boxes[0]
    assert (x2 - x1) / (y2 - y1) == pytest.approx(120 / 90, rel=0.1)


@needs_chromium
def test_a_place_is_ignored_with_a_key_shown_for_the_edges_settings_and_counted_again(watching: Watching) -> None:
    browser = watching.browser
    browser.go(f"camera/{CAMERA}/review")
    browser.run("state.token = arguments[0]; route()", watching.token)
    browser.wait(lambda: browser.text(".review [role=status]").startswith("4 frames in dispute"))
    name = browser.run("return document.querySelector('.review img').src.split('/').pop().split('.')[0]")
    press = (
        "document.querySelector('.review .pic')"
        ".dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true }))"
    )
    for key in ("e", "n"):
        browser.run(press, key)
    browser.run(press, "i")
    browser.wait(lambda: browser.count(".review .over .ignored") == 1)
    assert browser.text(".review .answer").startswith("ignored in this frame: a car that stands there is neither")
    toml = browser.text(".review pre")
    assert toml.startswith('# below [[camera]] with name = "gate", in edge.toml\n[[camera.ignore]]\npolygon = [[')
    assert toml.endswith('classes = ["car"]\n')
    assert browser.count(".editing rect.p") == 1, "its box is none any more"
    (frame,) = watching.cloud.frames.get([name])
    assert [one.classes for one in frame.ignored] == [("car",)]
    assert [one.who.split(",")[0] for one in ignored_in(watching.cloud.index, [name])] == ["page"]
    browser.run(press, "o")
    browser.wait(lambda: browser.count(".review .over .ignored") == 0)
    assert watching.cloud.frames.get([name])[0].ignored == ()
    before = browser.count(".editing rect.p")
    browser.run(press, "s")
    assert browser.count(".editing rect.p") == before + 1, "the student's box is the person's now"


@needs_chromium
def test_what_is_wrong_is_an_alert_until_somebody_has_seen_it(watching: Watching) -> None:
    browser = watching.browser
    browser.go("alerts")
    browser.wait(lambda: browser.text(".ringing") == "Nothing else is wrong now.")
    assert browser.text(".unseen") == f"1 camera was never seen: {HOSTILE}."
    for newer in (0, 950, 1900):
        watching.edge.send(watching.beat(seen=1000, dropped={"newer": newer}))
        browser.wait(lambda: browser.run("return state.cameras.get('gate')?.seen") == watching.seen)
    card = ".ringing [data-alert=CullingCameraHardlyLookedAt]"
    browser.wait(lambda: browser.text(f"{card} .word") == "too slow")
    assert "Set max_fps for the camera" in browser.text(f"{card} .todo")
    browser.wait(lambda: browser.text("#alerts") == "1")
    browser.run("document.querySelector(arguments[0]).click()", f"{card} button")
    browser.wait(lambda: browser.run("return document.getElementById('alerts').hidden"))
    assert browser.text(f"{card} button") == "seen"


@needs_chromium
def test_a_camera_shows_what_its_round_does_and_what_the_next_one_waits_for(watching: Watching) -> None:
    browser = watching.browser
    browser.go(f"camera/{CAMERA}")
    browser.wait(lambda: browser.text(".answers [data-k=rounds]").startswith("rounds are on hold"))
    # Told and read in one script: the service's own news come in between.
    changed = "const row = { ...state.cameras.get(arguments[0]), ...arguments[1] }; state.cameras.set(row.camera, row);"
    shown = "return document.querySelector('.answers [data-k=rounds]').textContent"
    told = f"{changed} state.view.news({{ cameras: [row] }}); {shown}"
    running = {"id": 3, "told": "train 40%, 12 min left"}
    assert browser.run(told, CAMERA, {"round": running}) == "round 3: train 40%, 12 min left"
    at = time.mktime((2026, 11, 28, 14, 5, 0, 0, 0, -1))
    waits = {"waiting": 12, "needed": 32, "at": at, "told": "in the time zone of the service"}
    wanted = "12 of 32 labelled frames, next round about 14:05"
    assert browser.run(told, CAMERA, {"round": None, "next_round": waits}) == wanted
    assert browser.run(told, CAMERA, {"round": None, "next_round": None}) == "next round is due"
    turn = {"id": 3, "camera": CAMERA, "trigger": "age", "started": at, "state": "running", "reason": ""}
    turn["running"] = {"stage": "train", "share": 0.4, "left_s": 720, "told": running["told"]}
    card = "const card = document.createElement('section'); roundCard(card, arguments[0], true);"
    read = "return ['header span', '.here', 'p:last-child'].map(one => card.querySelector(one).textContent)"
    assert browser.run(card + read, turn) == [running["told"], "train", "40 % of train, about 12 min left of it"]


@needs_chromium
def test_whatever_a_camera_is_called_it_is_shown_as_text(watching: Watching) -> None:
    browser = watching.browser
    browser.go("")
    browser.wait(lambda: HOSTILE in browser.text(".fleet"))
    browser.go(f"camera/{HOSTILE.replace('/', '%2F')}")
    browser.wait(lambda: browser.text("h1") == HOSTILE)
    assert browser.run("return document.title").startswith(HOSTILE)
    assert browser.count("h1 script") == 0


@needs_chromium
def test_nothing_is_cut_off_at_any_width(watching: Watching) -> None:
    for width in (390, 1000, 1280, 2560):
        browser = Browser(watching.url, width=width, dark=width == 390)
        try:
            _assert_nothing_is_cut_off(browser, width)
        finally:
            browser.close()


def _assert_nothing_is_cut_off(browser: Browser, width: int) -> None:
    tabs = (f"camera/{CAMERA}{tab}" for tab in ("", "/frames", "/review", "/rounds", "/models"))
    for view in ("", *tabs, "rounds", "alerts"):
        browser.go(view)
        browser.wait(lambda: browser.text("#link") not in ("", "connecting …"))
        browser.wait(
            lambda: browser.count("main svg, main img, main section, main tbody tr, main .cam, main .alerts p")
        )
        assert browser.run(WIDER) == [], (width, view)


@needs_chromium
def test_a_long_name_is_cut_in_its_place_and_a_label_breaks_between_words(watching: Watching) -> None:
    browser = Browser(watching.url, width=2560)
    name = "a-camera-with-quite-a-long-name-at-the-northern-loading-dock-gate-27"
    try:
        browser.wait(lambda: browser.count(f"[data-camera={CAMERA}]"))
        browser.run(
            "const row = { ...state.cameras.get(arguments[0]), model: arguments[1] };"
            "state.cameras.set(row.camera, row); state.view.news({ cameras: [row] })",
            CAMERA,
            name,
        )
        place = f"[data-camera={CAMERA}] .model"
        inside = (
            "const one = document.querySelector(arguments[0]), text = one.querySelector('.v');"
            "const right = [text, one].map(each => each.getBoundingClientRect().right);"
            "return [text.title, text.textContent, right[0] <= right[1] + 1, "
            "getComputedStyle(text).textOverflow, getComputedStyle(text).display]"
        )
        assert browser.run(inside, place) == [name, name, True, "ellipsis", "block"]
    finally:
        browser.close()
    browser = Browser(watching.url, width=390)
    try:
        browser.go(f"camera/{CAMERA}/models")
        browser.wait(lambda: browser.count(".pair tbody tr"))
        lines = (
            "return [...document.querySelectorAll('.pair tbody td:first-child')]"
            ".filter(one => !one.textContent.includes(' '))"
            ".filter(one => { const range = document.createRange(); range.selectNodeContents(one);"
            " return range.getClientRects().length > 1 }).map(one => one.textContent)"
        )
        assert browser.run(lines) == []
        assert browser.run(WIDER) == []
    finally:
        browser.close()


@needs_chromium
def test_a_camera_with_one_model_has_nothing_to_compare(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path, page={"port": free_port()})
    Showcase(cloud, [CAMERA])
    page = Dashboard(
        cloud.settings, cloud.index, cloud.frames, dict, SystemClock(), Metrics(CollectorRegistry(), "cloud")
    )
    browser = Browser(page.url)
    try:
        browser.go(f"camera/{CAMERA}/models")
        browser.wait(lambda: "There is only gate-1: nothing to put beside it yet." in browser.text("main"))
        assert browser.count(".pair") == 0
        two = [{"model_id": name, "sha256": name, "scale": 1, "runs": False} for name in ("b", "a")]
        assert browser.run("return pairOf(arguments[0])", two) == ["b", "a"], "none is in use"
    finally:
        browser.close()
        page.close()
        cloud.close()


@needs_chromium
def test_no_request_leaves_the_host_and_the_console_is_silent(watching: Watching) -> None:
    browser = Browser(watching.url)
    try:
        for view in ("", f"camera/{CAMERA}", f"camera/{CAMERA}/frames", f"camera/{CAMERA}/rounds", "rounds"):
            browser.go(view)
            browser.wait(lambda: browser.count("svg, img, section"))
        assert {url for url in browser.loaded() if not url.startswith((browser.url, "data:"))} == set()
        assert browser.complaints() == []
    finally:
        browser.close()


@needs_chromium
def test_a_lost_connection_shows_and_heals(watching: Watching) -> None:
    browser = watching.browser
    browser.go("")
    browser.wait(lambda: browser.run("return state.heardAt"))
    watching.service.kill()
    browser.wait(lambda: browser.text("#lost").startswith("Connection lost: figures are of"))
    heard = 1000 * time.mktime((2026, 11, 28, 14, 5, 9, 0, 0, -1))
    browser.run("tried = 0; state.heardAt = arguments[0]", heard)
    browser.wait(lambda: browser.run("return tried"))  # it tries again after a silence
    assert browser.run("return state.heardAt") == heard
    assert browser.text("#lost").startswith("Connection lost: figures are of 14:05:09."), "the last word heard"
    browser.go("rounds")
    browser.wait(lambda: browser.text("main .bad") == "The service does not answer; trying again")
    browser.go("")
    watching.restart()
    browser.wait(lambda: browser.run("return document.getElementById('lost').hidden"), within_s=60)
    watching.edge.send(watching.beat(seen=5000))
    browser.wait(lambda: browser.run("return state.cameras.get('gate')?.seen") == watching.seen)


def test_a_thousand_stalled_watchers_do_not_hurt_ingest(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limit[1]), limit[1]))
    cloud = CloudState(tmp_path, schedule={"hold": True}, page={"port": free_port(), "streams": WATCHERS + 200})
    fleet, secret, port = (
        Showcase(cloud, [f"camera-{n:03d}" for n in range(200)]),
        cloud.enroll(edge="own"),
        cloud.settings.page.port,
    )
    watchers: list[socket.socket] = []
    try:
        with ServiceProcess(cloud) as service:
            fleet.open(service.endpoint)
            edge = Edge(service.endpoint, cloud.keys.curve_public, secret)
            edge.ask(hello(), Welcome)
            alone = seconds_to_ack(edge, fleet, 1)
            watchers += [stall(port) for _ in range(WATCHERS)]
            wait_until(lambda: stalled(port) == WATCHERS)
            watched = seconds_to_ack(edge, fleet, 1001)
            tell = f"{1000 * alone:.0f} ms to an ack, {1000 * watched:.0f} ms with {stalled(port)} stalled"
            print(tell)
            assert watched < 3 * alone + 0.05, tell
            edge.close()
            assert "Too many open files" not in service.log()
            assert "Traceback" not in service.log()
    finally:
        for one in watchers:
            one.close()
        fleet.close()
        cloud.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def stall(port: int) -> socket.socket:
    """Open a stream that is never read; small segments and a small window keep the kernel from buffering megabytes."""
    watcher = socket.socket()
    watcher.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    watcher.settimeout(30)
    watcher.connect(("127.0.0.1", port))
    watcher.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return watcher


def stalled(port: int) -> int:
    """Return to how many connections of a port the kernel cannot deliver what was sent."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and int(row[4].partition(":")[0], 16) > 0 for row in rows)


def seconds_to_ack(edge: Edge, fleet: Showcase, first: int) -> float:
    """Return the median over some frames, while every camera of the fleet has news."""
    took = []
    for seq in range(first, first + 40):
        if seq % 4 == 0:
            fleet.beat()
        frame, jpeg = hard_frame(seq)
        started = time.monotonic()
        assert edge.ask(frame, Ack, payload=jpeg).seq == seq
        took.append(time.monotonic() - started)
    return statistics.median(took)
