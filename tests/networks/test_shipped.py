"""The checkpoints that come with the package: intact, small, named right, and what their detectors code through."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from featcodec import FeatureCodec, bitstream
from featcodec.detectors import load_detector
from featcodec.detectors.split import DEFAULT_SPLIT
from featcodec.detectors.stored import KIND as DETECTOR
from featcodec.fingerprints import joined_fingerprint
from featcodec.images.reading import read_image
from featcodec.networks.bottleneck import load_bottleneck
from featcodec.networks.catalogue import (
    SHIPPED_BOTTLENECKS,
    SHIPPED_DETECTORS,
    SHIPPED_FOLDER,
    SHIPPED_LAYOUTS,
    SHIPPED_RESTORATIONS,
    Shipped,
    list_shipped,
    shipped_for,
)
from featcodec.networks.checkpoints import load_checkpoint
from featcodec.networks.layouts import load_layout
from featcodec.networks.restoration import load_restoration
from featcodec.networks.weights import list_models
from featcodec.privacy.attackers import KINDS, find_shipped_attacker, load_attacker, shipped_attacker
from featcodec.privacy.direct_reader import KIND as DIRECT_READER
from featcodec.privacy.plate_reader import KIND as PLATE_READER
from featcodec.privacy.recnet import RecNet
from featcodec.privacy.strong_recnet import KIND as STRONG_RECNET
from featcodec.scenes.scene import CLASSES

YOLOV5N = bytes.fromhex("53961ef2ce19a847")
NAMES = {
    "yolov5n": {"guarded", "veiled", "private", "compact", "guarded-v1", "private-v1"},
    "scenes": {"alley", "street"},
    "scenes11": {"avenue"},
}
"""Bottlenecks by detector."""
MAX_BYTES = 51_000_000
MAX_BYTES_OF_SCENES = 12_000_000

each_shipped = pytest.mark.parametrize("shipped", SHIPPED_BOTTLENECKS, ids=lambda shipped: shipped.name)
each_detector = pytest.mark.parametrize("detector", NAMES)


def fingerprint_of(detector: str) -> bytes:
    return YOLOV5N if detector == "yolov5n" else load_detector(detector, device="cpu").fingerprint


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of a model, without its weights."""

    fingerprint: bytes
    edge_fingerprint: bytes
    split: int = 4


def _latent(detector: bytes) -> Names:
    return Names(detector, detector)


def _attacked(shipped: Shipped) -> Names:
    bottleneck, detector = load_bottleneck(shipped.path), bytes.fromhex(shipped.made_for)
    names = bottleneck.fingerprint(), bottleneck.edge_fingerprint()
    return Names(*(joined_fingerprint(detector, name) for name in names))


def _codec(shipped: Shipped) -> bytes:
    return joined_fingerprint(bytes.fromhex(shipped.made_for), load_bottleneck(shipped.path).fingerprint())


@each_detector
def test_the_list_names_the_bottlenecks_of_each_detector(detector: str) -> None:
    """By a fingerprint that is the checkpoint's: a bottleneck behind another detector would never be found."""
    found = shipped_for(SHIPPED_BOTTLENECKS, fingerprint_of(detector))
    assert {shipped.name for shipped in found} == NAMES[detector]


def test_the_list_is_what_people_are_shown() -> None:
    assert len(SHIPPED_BOTTLENECKS) == sum(map(len, NAMES.values()))
    assert [each["name"] for each in list_shipped(SHIPPED_BOTTLENECKS, "detector")] == [
        shipped.name for shipped in SHIPPED_BOTTLENECKS
    ]
    shown = {each["name"]: each["weights"] for each in list_models()}
    assert list(SHIPPED_DETECTORS) == ["scenes", "scenes11"]
    assert [shown[name] for name in SHIPPED_DETECTORS] == ["ships with featcodec"] * 2


@each_shipped
def test_what_was_replaced_names_what_is_in_its_place(shipped: Shipped) -> None:
    in_place = [each for each in SHIPPED_BOTTLENECKS if not each.successor and each.made_for == shipped.made_for]
    assert shipped in in_place or shipped.successor in {each.name for each in in_place}
    assert not shipped_for(SHIPPED_BOTTLENECKS, bytes.fromhex(shipped.made_for))[0].successor, "the default"


def test_layouts_belong_to_tensors_that_people_have() -> None:
    tensors = {*(fingerprint_of(name).hex() for name in NAMES), *(_codec(each).hex() for each in SHIPPED_BOTTLENECKS)}
    named = [shipped.made_for for shipped in SHIPPED_LAYOUTS]
    assert len(set(named)) == len(named)
    assert set(named) <= tensors
    for shipped in SHIPPED_LAYOUTS:
        config = load_layout(shipped.path).config
        assert (config.model_fingerprint, config.split) == (shipped.made_for, DEFAULT_SPLIT)


def test_restorations_belong_to_codecs_that_people_have() -> None:
    """One a codec, behind the default split, so that a decoder finds it and no other split is chosen by it."""
    tensors = {*map(fingerprint_of, NAMES), *map(_codec, SHIPPED_BOTTLENECKS)}
    laid_out = {
        joined_fingerprint(bytes.fromhex(shipped.made_for), load_layout(shipped.path).fingerprint())
        for shipped in SHIPPED_LAYOUTS
    }
    named = [shipped.made_for for shipped in SHIPPED_RESTORATIONS]
    assert len(set(named)) == len(named)
    assert set(named) <= {codec.hex() for codec in tensors | laid_out}
    for shipped in SHIPPED_RESTORATIONS:
        config = load_restoration(shipped.path).config
        assert (config.stream_fingerprint, config.split) == (shipped.made_for, DEFAULT_SPLIT)


@each_shipped
def test_checkpoint_says_what_the_list_says(shipped: Shipped) -> None:
    config = load_bottleneck(shipped.path).config
    assert config.detector_fingerprint == shipped.made_for
    assert config.training["metrics"]


@pytest.mark.parametrize("name", SHIPPED_DETECTORS)
def test_the_detectors_of_scenes_know_their_classes(name: str) -> None:
    path = SHIPPED_DETECTORS[name].path
    assert load_detector(name, device="cpu").names == tuple(CLASSES)
    assert path.stat().st_size < 6_000_000
    training = load_checkpoint(path, DETECTOR)[0]["training"]
    assert training["stage"] == "detector"
    assert training["metrics"]


def test_a_plate_reader_ships() -> None:
    content, _ = load_checkpoint(SHIPPED_FOLDER / "plate-reader.safetensors", PLATE_READER)
    assert content["training"]["metrics"]


@each_shipped
def test_its_attacker_ships(shipped: Shipped) -> None:
    recnet = shipped_attacker(_attacked(shipped))
    assert isinstance(recnet, RecNet)
    assert recnet.config.training["stage"] == "attack"
    assert recnet.config.training["edge_weight"] == 0


@pytest.mark.slow
@each_detector
def test_all_attackers_of_a_detector_had_the_same_budget(detector: str) -> None:
    fingerprint = fingerprint_of(detector)
    settings = []
    bottlenecks = shipped_for(SHIPPED_BOTTLENECKS, fingerprint)
    for attacked in (_latent(fingerprint), *map(_attacked, bottlenecks)):
        training = dict(shipped_attacker(attacked).config.training)
        settings.append(
            {name: training[name] for name in ("steps", "batch_size", "learning_rate", "optimizer", "data")}
        )
    assert len(settings) == 1 + len(NAMES[detector])
    assert all(each == settings[0] for each in settings)


@pytest.mark.slow
@each_detector
def test_strong_attackers_ship_in_pairs_of_the_same_budget(detector: str) -> None:
    """An attack that one side lacks is left out of an audit, and a longer training on one side would be unfair."""
    fingerprint = fingerprint_of(detector)
    bottlenecks = [each for each in shipped_for(SHIPPED_BOTTLENECKS, fingerprint) if not each.successor]
    if detector == "scenes":
        bottlenecks = bottlenecks[:1]  # street, the default before, has none
    found = [find_shipped_attacker(attacked, STRONG_RECNET) for attacked in map(_attacked, bottlenecks)]
    assert None not in found
    attackers = [
        shipped_attacker(_latent(fingerprint), STRONG_RECNET),
        *(load_attacker(path) for path in found if path),
    ]
    trainings = [attacker.config.training for attacker in attackers]
    for name in ("steps", "batch_size", "optimizer", "data", "precision"):
        assert all(training[name] == trainings[0][name] for training in trainings)
    assert all(training["metrics"] for training in trainings)
    # Later ones have BatchNorm and a higher learning rate. The two sides of the default are alike in all.
    for name in ("learning_rate", "strong"):
        assert trainings[1][name] == trainings[0][name]


def files_of(detector: str) -> set[Path]:
    """What ships for a detector: its own weights where they do, bottlenecks and attackers."""
    fingerprint = fingerprint_of(detector)
    bottlenecks = shipped_for(SHIPPED_BOTTLENECKS, fingerprint)
    attacked = (_latent(fingerprint), *map(_attacked, bottlenecks))
    recnets = (find_shipped_attacker(each, kind) for each in attacked for kind in KINDS)
    files = {shipped.path for shipped in bottlenecks} | {path for path in recnets if path is not None}
    return files | {shipped.path for name, shipped in SHIPPED_DETECTORS.items() if name == detector}


def reads_something(path: Path) -> bool:
    """Whether a direct reader reads the tensors of a detector that people have, with or without its bottlenecks."""
    latent = (_latent(fingerprint_of(detector)) for detector in NAMES)
    edges = {attacked.edge_fingerprint.hex() for attacked in (*latent, *map(_attacked, SHIPPED_BOTTLENECKS))}
    return load_checkpoint(path, DIRECT_READER)[0]["edge_fingerprint"] in edges


@pytest.mark.slow
def test_nothing_else_ships() -> None:
    """Every file is found by somebody; so nothing that is outdated lies about."""
    readers = {path for path in SHIPPED_FOLDER.glob("*-direct-reader.safetensors") if reads_something(path)}
    known = set().union(*map(files_of, NAMES)) | {SHIPPED_FOLDER / "plate-reader.safetensors"}
    known |= {shipped.path for shipped in (*SHIPPED_LAYOUTS, *SHIPPED_RESTORATIONS)} | readers
    assert set(SHIPPED_FOLDER.iterdir()) == known


def test_files_are_small_and_hold_no_paths() -> None:
    files = sorted(SHIPPED_FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < MAX_BYTES
    of_scenes = [*files_of("scenes"), SHIPPED_FOLDER / "plate-reader.safetensors"]
    assert len(of_scenes) == 9
    assert sum(file.stat().st_size for file in of_scenes) < MAX_BYTES_OF_SCENES
    for file in files:
        assert file.suffix == ".safetensors"
        content = file.read_bytes()
        assert b"/work" not in content
        assert b"/home" not in content
        assert b"/tmp" not in content


@pytest.mark.slow
def test_yolov5n_codes_through_the_default(yolov5n_path: Path, shared: Path) -> None:
    image = sorted((shared / "data/coco128/images/train2017").glob("*.jpg"))[0]
    check_default(yolov5n_path, "guarded", image)


@pytest.mark.slow
def test_scenes_are_coded_through_the_default(drawn_scenes: Path) -> None:
    for image in sorted((drawn_scenes / "images").iterdir())[:2]:
        check_default("scenes", "alley", image)


def check_default(detector: str | Path, name: str, path: Path) -> None:
    codec = FeatureCodec.load(detector)
    assert codec.fingerprint == FeatureCodec.load(detector, bottleneck=name).fingerprint
    image = read_image(path)
    data = codec.encode(image)
    side_info, _ = bitstream.unpack(data)
    assert codec.model.bottleneck is not None
    assert side_info.channels == codec.model.bottleneck.config.channels
    assert len(data) < len(FeatureCodec.load(detector, bottleneck=None).encode(image))
    confident = codec.detect(image).scores > 0.5
    assert (codec.decode(data).scores > 0.4).sum() >= confident.sum() / 2
