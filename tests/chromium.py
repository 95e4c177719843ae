"""A headless Chromium for tests, spoken to in its DevTools protocol, through pipes."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    # WebGL by the CPU
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
# Chromium takes commands from descriptor 3 and answers on 4
START = """
import fcntl, os, sys
for there, here in [(fcntl.fcntl(int(end), fcntl.F_DUPFD, 10), 3 + i) for i, end in enumerate(sys.argv[1:3])]:
    os.dup2(there, here)
os.execv(sys.argv[3], sys.argv[3:])
"""
# the text that is displayed, also that inside of custom elements and frames; their pieces come without spaces
TEXT = r"""
(function shown(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (node.nodeType !== Node.ELEMENT_NODE || getComputedStyle(node).display === "none") return "";
  if (node.tagName === "INPUT") return node.value;
  const inside = node.tagName === "IFRAME" ? node.contentDocument.body : node.shadowRoot;
  return [...(inside ? inside.childNodes : []), ...node.childNodes].map(shown).join("");
})(document.body).replace(/\s+/g, "")
"""


def find() -> str | None:
    """The path of a Chromium, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One page of a Chromium without a window, which ends with the ``with`` block.

    Args:
        path: the program.
        folder: where it keeps its profile.
        size: width and height of the page in pixels.
    """

    def __init__(self, path: str, folder: Path, size: tuple[int, int] = (1400, 1100)) -> None:
        reads, self._commands = os.pipe()
        self._answers, writes = os.pipe()
        options = [*OPTIONS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", START, str(reads), str(writes), path, *options],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reads)
        os.close(writes)
        self._buffer = b""
        self._sent = 0
        self._session: dict[str, str] = {}

    def __enter__(self) -> "Chromium":
        pages = [target for target in self.send("Target.getTargets")["targetInfos"] if target["type"] == "page"]
        attached = self.send("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        return self

    def __exit__(self, *exception: object) -> None:
        # the process leads a group of its own: none of its helpers stays
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def send(self, method: str, seconds: float = 30, **parameters: Any) -> dict[str, Any]:
        """Give a command and return its result."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + seconds
        while True:
            while b"\0" not in self._buffer:
                if not select.select([self._answers], [], [], max(deadline - time.monotonic(), 0))[0]:
                    raise TimeoutError(f"Chromium does not answer {method} within {seconds} s")
                received = os.read(self._answers, 1 << 20)
                if not received:
                    raise EOFError(f"Chromium has ended before it answered {method}")
                self._buffer += received
            answer, _, self._buffer = self._buffer.partition(b"\0")
            content = json.loads(answer)
            if content.get("id") == self._sent:
                assert "error" not in content, content
                return content["result"]

    def open(self, url: str) -> None:
        """Go to a page, and not only to another part of the one that is open."""
        for address in ("about:blank", url):
            self.send("Page.navigate", url=address)

    def text(self) -> str:
        """What a reader sees, without any spaces."""
        return self.send("Runtime.evaluate", expression=TEXT, returnByValue=True)["result"].get("value", "")

    def screenshot(self) -> bytes:
        """The page as a PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot")["data"])
