"""Training: the losses, and one file per stage."""

from __future__ import annotations

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before any submodule imports ultralytics)
