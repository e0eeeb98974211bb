"""The live view as a person meets it: a real agent, and a real browser."""

from __future__ import annotations

import http.client
import ssl
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from culling.edge.status import fetch
from support.browser import Browser, needs_chromium
from support.nginx import HOST, Nginx, needs_nginx
from support.site import CAMERA
from support.viewing import LEFT, Viewing

pytestmark = [needs_chromium, pytest.mark.timeout(300)]

CORNERS = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
OFF = "return document.getElementById('apply').getAttribute('aria-disabled')"
DARK = """
const canvas = document.createElement("canvas"), one = state.picture;
canvas.width = one.width; canvas.height = one.height;
const pen = canvas.getContext("2d", { willReadFrequently: true });
pen.drawImage(one, 0, 0);
const mean = (x, w) => {
  const data = pen.getImageData(x, 0, w, one.height).data;
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) sum += data[at] + data[at + 1] + data[at + 2];
  return sum / data.length;
};
return [mean(0, one.width / 2 - 4), mean(one.width / 2 + 4, one.width / 2 - 4)];
"""
"""How bright the picture is that the page was sent, left and right."""

REFUSE = """
const status = arguments[0];
window.asking ??= fetch;
fetch = (path, how) => !String(path).endsWith("/regions") ? asking(path, how)
  : status ? Promise.resolve(new Response(JSON.stringify({ error: `refused by ${status}` }), { status }))
  : Promise.reject(new TypeError("Failed to fetch"));
"""
"""Answers the next *apply* as no agent of a test can be brought to."""


class Looking:
    """A browser before the view of an agent with two cameras, one of which there is not."""

    def __init__(self, folder: Path, **view: Any) -> None:
        self.viewing = Viewing(folder, **view)
        self.viewing.site.install_student()
        self.viewing.site.settings["camera"].append({"name": "yard", "url": "rtsp://127.0.0.1:9/none"})
        self.viewing.start()
        self.browser = Browser(self.viewing.url)

    def unlock(self) -> None:
        self.browser.wait(lambda: self.browser.count("#locked:not([hidden])"))
        self.browser.driver.find_element(By.ID, "token").send_keys(self.viewing.token, Keys.ENTER)
        self.see()

    def see(self) -> None:
        """Wait until a picture is there in which something was found."""
        self.browser.wait(lambda: self.browser.run("return Boolean(state.picture && state.head.record)"), 60)

    def click_points(self, points: tuple[tuple[float, float], ...]) -> None:
        """Click points of the picture, in fractions of it; those on its border a pixel inside."""
        canvas = self.browser.driver.find_element(By.ID, "canvas")
        wide, tall = canvas.size["width"], canvas.size["height"]
        chain = ActionChains(self.browser.driver, duration=0)
        for x, y in points:
            across, down = (round((part - 0.5) * (side - 2)) for part, side in ((x, wide), (y, tall)))
            chain = chain.move_to_element_with_offset(canvas, across, down).click()
        chain.perform()

    def type(self, *keys: str) -> None:
        self.browser.driver.find_element(By.ID, "canvas").send_keys(*keys)

    def file(self) -> dict[str, Any]:
        found: dict[str, Any] = tomllib.loads((self.viewing.site.folder / "edge.toml").read_text())
        return found

    def close(self) -> None:
        self.browser.close()
        self.viewing.close()


@pytest.fixture
def looking(tmp_path: Path) -> Iterator[Looking]:
    looking = Looking(tmp_path, actions=True)
    yield looking
    looking.close()


@pytest.fixture(scope="module")
def open_view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looking]:
    """One agent for tests that change nothing of it."""
    looking = Looking(tmp_path_factory.mktemp("view"), actions=True)
    looking.unlock()
    yield looking
    looking.close()


def test_a_region_that_is_drawn_with_the_mouse_and_applied_is_seen_by_the_running_agent(looking: Looking) -> None:
    looking.unlock()
    browser = looking.browser
    bright = browser.run(DARK)
    assert min(bright) > 20

    browser.click("mask")
    browser.click("draw a mask")
    looking.click_points(CORNERS)
    looking.type(Keys.ENTER)
    browser.wait(lambda: "mask = [[[" in browser.text("#toml"))
    assert browser.run(DARK)[0] > 20, "what is only drawn changes no picture"
    browser.click("apply now")

    browser.wait(lambda: browser.text("#answer") == f"in force: changed {CAMERA}", 60)
    browser.wait(lambda: browser.run(DARK)[0] < 3, 60)
    assert browser.run(DARK)[1] > 20
    [polygon] = looking.file()["camera"][0]["mask"]
    assert [part for point in polygon for part in point] == pytest.approx([0, 0, 0.5, 0, 0.5, 1, 0, 1], abs=0.02)
    assert looking.file()["cloud"] == looking.viewing.site.settings["cloud"]
    assert '"settings_reloaded"' in looking.viewing.site.log()
    metrics = fetch("127.0.0.1", looking.viewing.site.settings["metrics"]["port"])
    assert f'culling_view_frames_total{{camera="{CAMERA}"}}' in metrics
    assert browser.complaints() == []


def test_a_zone_that_is_drawn_by_keys_alone_counts_what_stands_in_it(looking: Looking) -> None:
    looking.unlock()
    browser = looking.browser
    looking.type("d", " ")
    looking.type(*(Keys.ARROW_RIGHT * 20), " ", *(Keys.SHIFT + Keys.ARROW_DOWN * 4 + Keys.NULL), " ", Keys.ENTER)
    browser.wait(lambda: 'name = "zone-1"' in browser.text("#toml"))
    before = browser.run("return state.regions[0].polygon[0]")
    looking.type("n", Keys.ARROW_LEFT * 3)
    after = browser.run("return state.regions[0].polygon[0]")
    assert after[0] == pytest.approx(before[0] - 0.015)
    looking.type("u", "u", "u")
    assert browser.run("return state.regions[0].polygon[0]") == before
    name = browser.driver.find_element(By.ID, "name")
    name.clear()
    name.send_keys("gateway", Keys.TAB)
    browser.wait(lambda: 'name = "gateway"' in browser.text("#toml"))
    browser.click("apply now")
    browser.wait(lambda: browser.text("#zones td") == "gateway", 60)
    assert looking.file()["camera"][0]["zone"][0]["name"] == "gateway"


def test_a_polygon_that_crosses_itself_is_refused_in_the_words_of_the_settings(looking: Looking) -> None:
    looking.unlock()
    browser = looking.browser
    looking.type("d")
    looking.click_points(((0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.1, 0.9)))
    looking.type(Keys.ENTER)
    browser.wait(lambda: "camera.0.zone.0.polygon: the polygon crosses itself" in browser.text("#wrong-regions"))
    assert browser.run(OFF) == "true"
    browser.click("discard changes")
    browser.wait(lambda: browser.text("#wrong-regions") == "")
    assert browser.run("return state.regions") == []


def masked_by_hand(looking: Looking) -> None:
    """Somebody else draws a mask in the settings file, of which the agent knows nothing yet."""
    path = looking.viewing.site.folder / "edge.toml"
    text = path.read_text()
    path.write_text(text.replace(f'name = "{CAMERA}"', f'name = "{CAMERA}"\nmask = [{LEFT}]', 1))
    assert path.read_text() != text


def test_a_refused_apply_says_so_and_after_reading_anew_holds_what_both_drew(looking: Looking) -> None:
    looking.unlock()
    browser = looking.browser
    looking.type("d")
    looking.click_points(CORNERS)
    looking.type(Keys.ENTER)
    browser.wait(lambda: 'name = "zone-1"' in browser.text("#toml"))
    masked_by_hand(looking)
    browser.click("apply now")
    browser.wait(lambda: browser.text("#answer").startswith("Nothing was applied: "))
    assert "has other regions for gate than the agent" in browser.text("#answer")
    assert "zone" not in looking.file()["camera"][0]
    browser.click("read the file anew")
    browser.wait(lambda: browser.text("#answer").startswith("Read anew."), 60)
    assert [one["kind"] for one in browser.run("return state.regions")] == ["mask", "zone"]
    browser.click("apply now")
    browser.wait(lambda: browser.text("#answer") == f"in force: changed {CAMERA}", 60)
    [camera, _] = looking.file()["camera"]
    assert (len(camera["mask"]), [zone["name"] for zone in camera["zone"]]) == (1, ["zone-1"])


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413, 500, 502, 503, 0])
def test_no_refusal_of_apply_goes_unsaid(open_view: Looking, status: int) -> None:
    browser = open_view.browser
    open_view.type("d")
    open_view.click_points(CORNERS)
    open_view.type(Keys.ENTER)
    browser.wait(lambda: browser.run(OFF) == "false")
    browser.run(REFUSE, status)
    browser.click("apply now")
    unknown = status in (0, 500, 502)
    expected = "It is not known whether this was applied (" if unknown else "Nothing was applied: "
    browser.wait(lambda: browser.text("#answer").startswith(expected))
    assert ("no answer came" if status == 0 else f"refused by {status}") in browser.text("#answer")
    assert browser.count("#reread:not([hidden])") == (unknown or status == 409)
    assert browser.count("#locked:not([hidden])") == (status == 401)
    browser.run("fetch = asking; lookElsewhere()")
    if status == 401:
        assert browser.text("#wrong").endswith("What is drawn is kept.")
        browser.driver.find_element(By.ID, "token").send_keys(open_view.viewing.token, Keys.ENTER)
        browser.wait(lambda: browser.count("#open:not([hidden])"))
    assert len(browser.run("return state.regions")) == 1
    browser.click("discard changes")


def test_what_was_heard_of_an_agent_that_was_killed_pales_and_ages(looking: Looking) -> None:
    looking.unlock()
    browser = looking.browser
    browser.wait(lambda: "frames/s" in browser.text("#facts"))
    assert (browser.count("body.stale"), browser.text("#silent")) == (0, "")
    looking.viewing.site.processes[-1].kill()
    browser.wait(lambda: browser.count("body.stale"), 20)
    taken, dead = browser.text("#facts"), browser.text("#silent")
    assert dead.startswith("The agent has not answered since ")
    assert "a second" not in taken
    assert "frames/s" not in taken
    assert "just now" not in taken
    browser.wait(lambda: browser.text("#facts") != taken, 10)  # its age counts on
    assert browser.text("#silent") == dead
    assert browser.run("return getComputedStyle(document.getElementById('canvas')).opacity") == "0.45"


def test_a_name_that_was_wrong_is_mended_and_applied_with_one_click_that_keeps_the_focus(looking: Looking) -> None:
    looking.unlock()
    browser = looking.browser
    looking.type("d")
    looking.click_points(CORNERS)
    looking.type(Keys.ENTER)
    name = browser.driver.find_element(By.ID, "name")
    name.clear()
    name.send_keys("the gate", Keys.TAB)
    browser.wait(lambda: "letters, digits, . _ and -, at most 64" in browser.text("#wrong-regions"))
    browser.wait(lambda: browser.run(OFF) == "true")  # the check of the empty name may have been told before
    name = browser.driver.find_element(By.ID, "name")
    name.clear()
    name.send_keys("gateway")
    browser.driver.find_element(By.ID, "apply").click()
    browser.wait(lambda: browser.text("#answer") == f"in force: changed {CAMERA}", 60)
    assert browser.count("#discard:not([hidden])") == 0
    assert browser.run("return document.activeElement.id") == "apply"
    assert looking.file()["camera"][0]["zone"][0]["name"] == "gateway"


def test_the_figures_stay_on_a_wide_screen_and_answers_beside_their_buttons_on_a_phone(open_view: Looking) -> None:
    browser = open_view.browser
    below = "return document.getElementById('facts').getBoundingClientRect().bottom - innerHeight"
    try:
        for width, height in ((2560, 1440), (2560, 1080), (1280, 720)):
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            assert browser.run(below) <= 0, (width, height)
        size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        order = "return [...document.querySelectorAll('#apply, #answer, #toml')].map(one => one.id)"
        assert browser.run(order) == ["apply", "answer", "toml"]
    finally:
        size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_a_wrong_token_shows_nothing_and_a_camera_without_a_picture_says_why(looking: Looking) -> None:
    browser = looking.browser
    browser.wait(lambda: browser.count("#locked:not([hidden])"))
    browser.driver.find_element(By.ID, "token").send_keys("wrong", Keys.ENTER)
    browser.wait(lambda: browser.text("#wrong").startswith("wrong token"))
    assert browser.count("#camera option") == 0
    looking.unlock()
    browser.run("location.hash = '#yard'")
    browser.wait(lambda: browser.text("#nothing").startswith("The camera gives no picture"))
    assert browser.run("return state.picture") is None


def test_the_page_loads_nothing_from_elsewhere_and_its_answers_fit_a_phone(looking: Looking) -> None:
    looking.unlock()
    looking.browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    assert looking.browser.run("return document.documentElement.scrollWidth") <= 390
    assert {one.split("/")[2] for one in looking.browser.loaded() if one.startswith("http")} == {
        looking.viewing.url.removeprefix("http://")
    }


def test_where_actions_are_off_the_toml_is_all_there_is(tmp_path: Path) -> None:
    looking = Looking(tmp_path, token=False)
    looking.see()
    assert looking.browser.count("#apply:not([hidden])") == 0
    looking.browser.wait(lambda: "set view.actions" in looking.browser.text("#applies"))
    looking.close()


@needs_nginx
def test_below_the_path_of_a_proxy_the_picture_is_seen_and_a_region_is_applied(tmp_path: Path) -> None:
    looking = Looking(tmp_path, actions=True, names=[HOST])
    (tmp_path / "nginx").mkdir()
    nginx = Nginx(tmp_path / "nginx", looking.viewing.site.settings["view"]["port"], "culling-view.conf", "/gate")
    looking.browser.close()
    looking.browser = browser = Browser(nginx.url, hosts=HOST)
    try:
        looking.unlock()
        browser.click("mask")
        browser.click("draw a mask")
        looking.click_points(CORNERS)
        looking.type(Keys.ENTER)
        browser.wait(lambda: "mask = [[[" in browser.text("#toml"))
        browser.click("apply now")
        browser.wait(lambda: browser.text("#answer") == f"in force: changed {CAMERA}", 60)
        assert looking.file()["camera"][0]["mask"]
        assert behind(nginx, looking, f"localhost:{nginx.port}") == 422, "a name that it knows by itself, on any port"
        assert behind(nginx, looking, "localhost:1") == 403
        assert {one for one in browser.loaded() if not one.startswith((f"{nginx.url}/", "data:", "blob:"))} <= {
            nginx.url
        }
    finally:
        looking.close()
        nginx.close()


def behind(nginx: Nginx, looking: Looking, origin: str) -> int:
    """Return how a proxy that browsers know as localhost, on its port, answers to a page of `origin`."""
    context = ssl.create_default_context(cafile=str(nginx.folder / "cert.pem"))
    context.check_hostname = False
    connection = http.client.HTTPSConnection("127.0.0.1", nginx.port, timeout=20, context=context)
    headers = {
        "Host": f"localhost:{nginx.port}",
        "Origin": f"https://{origin}",
        "Content-Type": "application/json",
        "X-Culling-Token": looking.viewing.token,
    }
    connection.request("POST", f"/gate/api/cameras/{CAMERA}/regions", b"{}", headers)
    status = connection.getresponse().status
    connection.close()
    return status
