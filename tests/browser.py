"""Headless Chromium for tests of pages: no console error and no outside request may pass unseen."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.browser import chromium


@contextmanager
def browser_or_skip(profile: Path) -> Iterator["Browser"]:
    """A browser with an empty profile; the test is skipped where there is none."""
    try:
        with chromium(profile) as driver:
            yield Browser(driver)
    except LookupError as error:
        pytest.skip(str(error))


class Browser:
    """What the tests ask of a page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        driver.set_script_timeout(60)

    def open(self, address: str, ready: str = "return document.body.dataset.ready") -> None:
        """Load a page, and wait until it is ready."""
        self.driver.get("about:blank")  # a change of fragment alone would not load it anew
        self.driver.get(address)
        self.wait(ready)

    def wait(self, script: str, seconds: float = 30) -> Any:
        """What a script returns once that is true."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(lambda driver: driver.execute_script(script), script)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def press(self, *keys: str) -> None:
        """Press keys on whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def texts(self, selector: str) -> list[str]:
        """The texts of elements, with the minus sign that programs read."""
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent.replaceAll('−', '-'))",
            selector,
        )

    def click(self, element: Any, right: float, down: float) -> None:
        """Click so many pixels right of and below the upper left corner of an element."""
        from selenium.webdriver import ActionChains

        self.run("arguments[0].scrollIntoView({ block: 'center' })", element)
        across, along = right - element.size["width"] / 2, down - element.size["height"] / 2
        ActionChains(self.driver).move_to_element_with_offset(element, round(across), round(along)).click().perform()

    def screen(self, width: int, height: int = 900, *, dark: bool = False, mobile: bool = False) -> None:
        """The size of the window, the colours that the user prefers, and whether it is a phone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": mobile})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def cdp(self, command: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def screenshot(self) -> bytes:
        return base64.b64decode(self.cdp("Page.captureScreenshot", format="png")["data"])

    def complaints(self) -> list[str]:
        """What the console says at the levels of warnings and errors, since the last call."""
        return [one["message"] for one in self.driver.get_log("browser") if one["level"] in ("WARNING", "SEVERE")]

    def hosts(self) -> set[str]:
        """The hosts that were asked for anything, since the last call."""
        events = [json.loads(one["message"])["message"] for one in self.driver.get_log("performance")]
        asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).hostname or "" for url in asked if urlsplit(url).scheme not in ("data", "blob", "about")}
