"""A real Chromium, headless, that writes down what it loaded and what its console said.

One takes a second of CPU to start, so that which a test is done with is the next one's: emptied, at another address.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from support.waiting import LONG_S

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="chromium or chromedriver is not installed: apt-get install chromium chromium-driver",
)


class Browser:
    """One window of the given size in pixels, at `url`; for it, every host of `hosts` is this machine."""

    def __init__(self, url: str, width: int = 1280, height: int = 900, dark: bool = False, hosts: str = "") -> None:
        self.url = url
        self._shared = not hosts  # what one was told of a host, it keeps
        self.driver = IDLE.pop() if self._shared and IDLE else _launch(hosts)
        self.driver.set_window_size(width, height)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.loaded()
        self.complaints()
        self.driver.get(f"{url}/")

    def go(self, view: str) -> None:
        """Show a view anew, named as behind the `#/` of its address."""
        self.run(
            "const before = location.hash; location.hash = '#/' + arguments[0]; if (location.hash === before) route()",
            view,
        )

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def count(self, selector: str) -> int:
        return len(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def click(self, text: str) -> None:
        """Press the button that says so, once it is there."""
        script = "return [...document.querySelectorAll('button')].find(one => one.textContent === arguments[0])"
        self.wait(
            lambda: self.run(f"const found = ({script.removeprefix('return ')}); found?.click(); return !!found", text)
        )

    def wait(self, condition: Any, within_s: float = LONG_S) -> Any:
        """Return what `condition` gives once that is true."""
        return WebDriverWait(self.driver, within_s, poll_frequency=0.05).until(lambda _: condition())

    def complaints(self) -> list[str]:
        """Return what the console said since last asked."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def loaded(self) -> set[str]:
        """Return the address of everything asked for since last asked."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.add(message["params"]["request"]["url"])
        return found

    def close(self) -> None:
        if not self._shared:
            self.driver.quit()
            return
        origin = self.run("return location.origin")
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        self.driver.get("about:blank")
        IDLE.append(self.driver)


IDLE: list[webdriver.Chrome] = []
"""Those that no test has."""


def quit_all() -> None:
    """End those that no test has."""
    while IDLE:
        IDLE.pop().quit()


def _launch(hosts: str) -> webdriver.Chrome:
    options = Options()
    options.accept_insecure_certs = bool(hosts)
    options.add_argument(f"--host-resolver-rules=MAP {hosts or 'localhost'} 127.0.0.1")
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))
