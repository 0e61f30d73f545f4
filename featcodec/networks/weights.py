"""Finds the weights of a detector: from a path, the package, the weights folder, or a pinned download."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from featcodec.errors import WeightsError, reason_of
from featcodec.networks.catalogue import LICENCE, SHIPPED_DETECTORS, SHIPPED_FOLDER, Shipped
from featcodec.networks.download import download
from featcodec.networks.known import KNOWN, KnownWeights
from featcodec.system.files import check_regular, read_bounded
from featcodec.system.paths import weights_folder

_MAX_BYTES = 2 << 30


def locate_weights(name_or_path: str | Path, check: Callable[[Path], object] = lambda path: None) -> Path:
    """The checkpoint file of a detector.

    The search order is: a path, the detectors that ship with the package, the weights folder ($FEATCODEC_HOME/weights,
    or weights/ in the user's cache), a download into the weights folder.

    Args:
        name_or_path: a path, or the name of a detector.
        check: reads a downloaded file whose SHA-256 is not known, and raises WeightsError if it is not a detector; such
            a download is not kept.

    Raises:
        WeightsError: the file is not found and cannot be downloaded, or it is damaged. After a failed download, the
            message says which file to put where.
    """
    path = Path(name_or_path)
    if _is_file(path):
        return path
    name = str(name_or_path)
    if name in SHIPPED_DETECTORS:
        return _shipped(SHIPPED_DETECTORS[name])
    known = KNOWN.get(name.removesuffix(".pt"))
    if known is None:
        return _own(name)
    if path.name != name:
        raise WeightsError(f"{name}: no such file; check the path, or use the name {known.name}")
    if not _is_file(known.path):
        _download(known, check)
    if not is_intact(known):
        raise WeightsError(
            f"{known.path}: not the {known.name} that featcodec knows ({known.damage}); delete it, or pass your own "
            "checkpoint by its path"
        )
    return known.path


def _shipped(detector: Shipped) -> Path:
    if not _is_file(detector.path):
        raise WeightsError(
            f"{detector.path}: the weights of {detector.name} are missing, but they ship with featcodec; install "
            "featcodec again, or train a detector with `featcodec train detector` and pass its path with `detector`"
        )
    return detector.path


def _own(name: str) -> Path:
    """A checkpoint that the user put into the weights folder. Its file name ending may be left out."""
    if Path(name).name == name:
        stem = name.removesuffix(".pt").removesuffix(".safetensors")
        for local in (weights_folder() / f"{stem}{suffix}" for suffix in (".pt", ".safetensors")):
            if name in (stem, local.name) and _is_file(local):
                return local
    raise WeightsError(
        f"{name}: neither a file nor a known detector; give a .pt or .safetensors file, or a name such as "
        f"{', '.join(SHIPPED_DETECTORS)}, yolov5n, yolov8s, yolo11n or yolo26m"
    )


def _is_file(path: Path) -> bool:
    """Whether the path is a file. A path that the system cannot look up, e.g. a too long name, is not a file.

    `featcodec.system.paths.is_file` raises an error without permission; here, weights in such a folder are missing.
    """
    return os.path.isfile(path)  # noqa: PTH113  (pathlib raises errors)


def is_intact(known: KnownWeights) -> bool:
    """Whether the file in the weights folder has the pinned SHA-256; if none is known, whether it is a whole archive.

    Raises:
        WeightsError: the file cannot be read, or is larger than any detector.
    """
    words = {"what": "detector", "remedy": "delete it", "unreadable": "change its permissions or delete it"}
    if known.sha256 is None:
        check_regular(known.path, _MAX_BYTES, WeightsError, **words)
        return zipfile.is_zipfile(known.path)
    data = read_bounded(known.path, _MAX_BYTES, WeightsError, **words)
    return hashlib.sha256(data).hexdigest() == known.sha256


def _download(known: KnownWeights, check: Callable[[Path], object]) -> None:
    try:
        download(known.url, known.path, known.sha256, check)
    except (OSError, WeightsError) as error:
        if _is_file(known.path):  # somebody did meanwhile what the message below says
            return
        reason = reason_of(error) if isinstance(error, WeightsError) else error.strerror
        raise WeightsError(
            f"{known.name} is not on this machine and cannot be downloaded ({reason}); download "
            f"{known.url} elsewhere and copy it to {known.path}, or pass its path with `detector`"
        ) from None


def local_detectors() -> list[str]:
    """Detectors that need no download: the names of the shipped detectors, then the paths in the weights folder."""
    folder = weights_folder()
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    here = [str(path) for path in files if path.suffix in (".pt", ".safetensors") and _is_file(path)]
    return [*SHIPPED_DETECTORS, *here]


def list_models() -> list[dict[str, str]]:
    """The rows that `featcodec models` shows: first the shipped detectors, then the detectors that can be downloaded.

    A row says whether the weights ship with featcodec, or are present, missing or damaged.
    """
    models = [
        {
            "name": shipped.name,
            "weights": "ships with featcodec" if _is_file(shipped.path) else "missing",
            "licence": LICENCE,
            "description": shipped.description,
            "source": f"featcodec/networks/{SHIPPED_FOLDER.name}/{shipped.file_name}",
            "folder": str(SHIPPED_FOLDER),
        }
        for shipped in SHIPPED_DETECTORS.values()
    ]
    for known in KNOWN.values():
        state = "missing"
        if _is_file(known.path):
            state = "present" if is_intact(known) else f"damaged ({known.damage})"
        models.append(
            {
                "name": known.name,
                "weights": state,
                "licence": known.licence,
                "description": known.description,
                "source": known.url,
                "folder": str(weights_folder()),
            }
        )
    return models
