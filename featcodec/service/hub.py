"""The hub: what pages see of the sources. A slow page misses messages; nothing waits for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from featcodec.edge.messages import Answer
from featcodec.service.metrics import Metrics
from featcodec.service.refusals import RefusedError

_WAITING_MESSAGES = 32
_SECONDS_BETWEEN = 0.1
_WINDOW_SECONDS = 5.0
_WINDOW_FRAMES = 1000


@dataclass(eq=False)
class SourceState:
    """What the hub knows of a source.

    Attributes:
        name: as the source says it.
        connections: how many connections have this name.
        refused: frames that were refused.
        next_shown: when a frame may be shown next, in seconds of the monotonic clock.
        recent: when a frame was answered, and its bytes.
    """

    name: str
    connections: int = 0
    refused: int = 0
    next_shown: float = 0.0
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_WINDOW_FRAMES))

    def rates(self, now: float) -> tuple[float, float]:
        """Bits per second and frames per second of the last seconds."""
        while self.recent and now - self.recent[0][0] > _WINDOW_SECONDS:
            self.recent.popleft()
        if len(self.recent) < 2:
            return 0.0, 0.0
        seconds = max(now - self.recent[0][0], 1e-3)
        later = len(self.recent) - 1
        return 8 * sum(size for _, size in list(self.recent)[1:]) / seconds, later / seconds


class Page:
    """A page that watches: its messages wait here. One that waits too long is dropped, the oldest first."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[str] = asyncio.Queue(_WAITING_MESSAGES)

    def put(self, message: str) -> bool:
        """Add a message. Returns False if another one was dropped for it."""
        is_full = self.messages.full()
        if is_full:
            self.messages.get_nowait()
        self.messages.put_nowait(message)
        return not is_full


class Hub:
    """All sources and all pages of a server. Lives in one event loop.

    Args:
        max_pages: the most pages.
        metrics: what is counted.
    """

    def __init__(self, max_pages: int, metrics: Metrics) -> None:
        self.max_pages = max_pages
        self.metrics = metrics
        self.pages: set[Page] = set()
        self.sources: dict[str, SourceState] = {}

    def open_page(self) -> Page:
        """A new page.

        Raises:
            RefusedError: there are too many.
        """
        if len(self.pages) >= self.max_pages:
            raise RefusedError(429, "pages_full", f"{self.max_pages} pages watch already; close one")
        page = Page()
        self.pages.add(page)
        return page

    def close_page(self, page: Page) -> None:
        """A page has gone."""
        self.pages.discard(page)

    def open_source(self, name: str) -> SourceState:
        """A connection of a source opens."""
        source = self.sources.setdefault(name, SourceState(name))
        source.connections += 1
        return source

    def close_source(self, source: SourceState) -> None:
        """A connection of a source closes."""
        source.connections -= 1
        if not source.connections:
            del self.sources[source.name]
            self.publish({"type": "gone", "source": source.name})

    def show(self, source: SourceState, answer: Answer) -> None:
        """Show a decoded frame, but not more than ten per second of one source."""
        now = time.monotonic()
        source.recent.append((now, answer.size))
        if not self.pages or now < source.next_shown:
            return
        source.next_shown = max(source.next_shown, now - _SECONDS_BETWEEN) + _SECONDS_BETWEEN
        bits, frames = source.rates(now)
        self.publish(
            {
                "type": "frame",
                "source": source.name,
                "frame": answer.frame,
                "width": answer.width,
                "height": answer.height,
                "detections": answer.detections,
                "qp": answer.qp,
                "bytes": answer.size,
                "bits_per_second": round(bits, 1),
                "frames_per_second": round(frames, 2),
                "latency_ms": round(answer.queue_ms + answer.decode_ms, 3),
                "refused": source.refused,
            }
        )

    def publish(self, message: dict[str, Any]) -> None:
        """Give a message to all pages."""
        if self.pages:
            text = json.dumps(message, separators=(",", ":"), allow_nan=False)
            for page in self.pages:
                if not page.put(text):
                    self.metrics.dropped.inc()
