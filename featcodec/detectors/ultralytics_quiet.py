"""Keeps ultralytics from installing packages, using the network and writing outside our cache. Import this first.

All settings here are defaults: if a user has set one of these variables, the user's value stays.
"""

from __future__ import annotations

import os

import torch  # noqa: F401  (torch must read OMP_NUM_THREADS before ultralytics sets it to 1)
from PIL import Image

from featcodec.system.paths import cache_folder

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_VERBOSE", "false")

_settings_are_ours = "YOLO_CONFIG_DIR" not in os.environ
os.environ.setdefault("YOLO_CONFIG_DIR", str(cache_folder()))

_threads = os.environ.get("OMP_NUM_THREADS")

import ultralytics  # noqa: E402
from ultralytics.utils import patches  # noqa: E402

if _threads is None:
    # ultralytics sets OMP_NUM_THREADS to 1 for the whole process and all its child processes.
    os.environ.pop("OMP_NUM_THREADS", None)
# ultralytics replaces Image.open. If a file is not an image, its version looks for a plugin and would install it.
Image.open = getattr(patches, "_image_open", Image.open)
if _settings_are_ours and ultralytics.settings.get("sync"):
    ultralytics.settings.update(sync=False)
