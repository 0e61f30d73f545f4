"""A Chromium for the tests of the page, and what it must not do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""As in bin/common.sh, which installs the first of them where it can."""


def find_browser() -> str:
    """The path of a Chromium. Without one, the test is skipped; in CI it fails, if one could have been installed."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        if os.environ.get("CI") == "true" and _can_install():
            pytest.fail("no Chromium, though bin/test could have installed one")
        pytest.skip("no Chromium; bin/test installs one where apt-get can")
    return found


def _can_install() -> bool:
    if shutil.which("apt-get") is None:
        return False
    sudo = shutil.which("sudo")
    return os.geteuid() == 0 or (
        sudo is not None and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. It must end with its module: while it is there, asyncio.run does not work in this thread."""
    path = find_browser()
    with sync_playwright() as playwright:
        # Its sandbox does not work for root, and it sees our own page only.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and all that it asked for and complained about."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message) or dialog.dismiss())
        self.page.on(
            "console", lambda line: (line.type in ("error", "warning") and self.complaints.append(line.text)) or None
        )


LOW_CONTRAST = """() => {
  const numbers = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour.slice(0, 3);
      if (colour[3] > 0) throw new Error(`${at.className}: a ground that one sees through`);
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest(".old .panels, .gone .panels, .old .measured, .gone .measured, noscript")) continue;
    const style = getComputedStyle(element);
    const [ink, ground] = [luminance(numbers(style.color)), luminance(behind(element))];
    const contrast = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (contrast < (large ? 3 : 4.5)) low.push(`${element.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return low;
}"""
"""Texts of a page whose contrast is below that of WCAG AA. What is marked as old is left out: it is no longer true."""
