"""Headless Chromium, for what is measured and tested in pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en",
)


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A driver of selenium's with an empty profile, which notes what pages say on the console and ask for.

    Raises:
        LookupError: chromium, its driver or selenium is not installed.
    """
    try:
        from selenium import webdriver
    except ImportError:
        raise LookupError("selenium is not installed: pip install selenium") from None
    browser, driver_program = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if browser is None or driver_program is None:
        raise LookupError("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_program))
    try:
        yield driver
    finally:
        driver.quit()
