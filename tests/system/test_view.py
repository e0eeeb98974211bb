"""The live view as a person meets it: a real agent, and a real browser."""

from __future__ import annotations

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
from support.viewing import Viewing

pytestmark = [needs_chromium, pytest.mark.timeout(300)]

CORNERS = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
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
    assert not browser.driver.find_element(By.ID, "apply").is_enabled()
    browser.click("discard changes")
    browser.wait(lambda: browser.text("#wrong-regions") == "")
    assert browser.run("return state.regions") == []


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
        assert {one for one in browser.loaded() if not one.startswith((f"{nginx.url}/", "data:", "blob:"))} <= {
            nginx.url
        }
    finally:
        looking.close()
        nginx.close()
