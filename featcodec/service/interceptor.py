"""The interceptor: what an attacker makes of the frames of the sources, for pages that watch.

It works in one thread of the lowest priority, on the latest frame of a source about once a second.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import logging
import os
import sys
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from featcodec.bitstream import SideInfo
from featcodec.codec import FeatureCodec
from featcodec.errors import FeatcodecError, WeightsError, reason_of
from featcodec.packing.frames import Frame
from featcodec.privacy.attack import Attack
from featcodec.privacy.attackers import find_shipped_attacker
from featcodec.privacy.strong_recnet import KIND as STRONG_RECNET
from featcodec.service.engine import Engine
from featcodec.service.hub import Hub, SourceState

log = logging.getLogger("featcodec.service")
_SECONDS_BETWEEN = 1.0
_PATIENCE_SECONDS = 5.0
"""How long frames that wait keep the interceptor from working."""
_LOOK_SECONDS = 0.1
_LOWEST_PRIORITY = 19
_QUALITY = 80


class _Latest(NamedTuple):
    number: int
    side_info: SideInfo
    frame: Frame


class Interceptor:
    """The attacker that ships for a codec's detector and bottleneck, if there is one.

    Args:
        codec: whose tensors are attacked.
        hub: shows the pictures.
        engine: has priority.
    """

    def __init__(self, codec: FeatureCodec, hub: Hub, engine: Engine) -> None:
        self._hub = hub
        self._engine = engine
        self._attack: Attack | None = None
        self.name: str | None = None
        # A weak attacker would make the stream look more private than it is.
        path = find_shipped_attacker(codec.model, STRONG_RECNET) or find_shipped_attacker(codec.model)
        if path is not None:
            with contextlib.suppress(WeightsError):
                self._attack = Attack.load(codec, path)
                self.name = path.stem
        self._latest: dict[SourceState, _Latest] = {}
        self._made: dict[SourceState, float] = {}
        self._work = ThreadPoolExecutor(1, initializer=_give_way)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to look for frames."""
        if self._attack is not None:
            self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
        self._work.shutdown(wait=True, cancel_futures=True)

    def see(self, source: SourceState, number: int, side_info: SideInfo, frame: Frame) -> None:
        """Remember the latest frame of a source, while a page watches."""
        if self._attack is not None and self._hub.pages:
            self._latest[source] = _Latest(number, side_info, frame)

    def forget(self, source: SourceState) -> None:
        """A source has gone."""
        self._latest.pop(source, None)
        self._made.pop(source, None)

    async def reconstruct(self, side_info: SideInfo, frame: Frame, work: Executor | None = None) -> str | None:
        """What the attacker makes of a frame.

        Args:
            side_info, frame: from the engine.
            work: where to compute; None is the thread of the lowest priority.

        Returns:
            a JPEG file in base64, or None without an attacker, or if it fails.
        """
        if self._attack is None:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(work or self._work, self._picture, side_info, frame)
        except (FeatcodecError, RuntimeError, MemoryError) as error:
            log.warning("the interceptor failed: %s", reason_of(error))
            return None

    def _picture(self, side_info: SideInfo, frame: Frame) -> str:
        assert self._attack is not None  # noqa: S101
        (picture,) = self._attack.on_streams([(side_info, frame)])
        file = io.BytesIO()
        Image.fromarray((picture * 255 + 0.5).astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
        return base64.b64encode(file.getvalue()).decode()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            source = self._next()
            if source is None:
                continue
            latest = self._latest.pop(source)
            self._made[source] = time.monotonic()
            jpeg = await self.reconstruct(latest.side_info, latest.frame)
            if jpeg is not None:
                self._hub.publish({"type": "interceptor", "source": source.name, "frame": latest.number, "jpeg": jpeg})

    def _next(self) -> SourceState | None:
        """The source whose turn it is, if one's is."""
        if not self._hub.pages:
            self._latest.clear()
        wait = _SECONDS_BETWEEN if self._engine.is_idle else _PATIENCE_SECONDS
        before = time.monotonic() - wait
        due = [each for each in self._latest if self._made.get(each, -_PATIENCE_SECONDS) <= before]
        return min(due, key=lambda each: self._made.get(each, 0.0), default=None)


def _give_way() -> None:
    """Give this thread the lowest priority. Linux has priorities of threads; elsewhere it only waits for its turn."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
