"""The direct reader: its windows, its checkpoints, and plates in tensors."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePath
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from featcodec import FeatureCodec
from featcodec.errors import WeightsError
from featcodec.images.letterbox import Letterbox
from featcodec.networks.catalogue import SHIPPED_FOLDER
from featcodec.networks.checkpoints import load_checkpoint, save_checkpoint
from featcodec.privacy import direct_reader
from featcodec.privacy.direct_reader import (
    KIND,
    WINDOW_HEIGHT,
    WINDOW_WIDTH,
    DirectReader,
    DirectReaderConfig,
    cut_windows,
    find_shipped_direct_reader,
    load_direct_reader,
    on_grid,
    save_direct_reader,
)
from featcodec.privacy.plates import PLATE_CHARACTERS, DirectPlates
from featcodec.privacy.private_details import PrivateDetail, PrivateDetails, read_private_details
from featcodec.privacy.readers import Score, summed
from featcodec.split_model import SplitModel

EDGE = "00112233445566ff"
SMALL = DirectReaderConfig(3, EDGE, hidden_channels=(6, 4, 8), training={"stage": "direct-reader"})


def small(config: DirectReaderConfig = SMALL) -> DirectReader:
    """Random weights with which different windows have different texts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reader = DirectReader(config).requires_grad_(False)
    for part in reader.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.weight.fill_(3)
    return reader


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def ramp(channels: int, height: int, width: int) -> torch.Tensor:
    """A tensor whose samples say where they are: channel 0 the column, channel 1 the row."""
    columns = torch.arange(width, dtype=torch.float32).expand(height, width)
    rows = torch.arange(height, dtype=torch.float32)[:, None].expand(height, width)
    return torch.stack([columns, rows, *[columns * 0] * (channels - 2)])


# The windows


def test_a_window_has_the_samples_of_the_tensor_and_the_box_lies_in_it() -> None:
    tensor = ramp(3, 64, 64)
    windows, boxes = cut_windows(tensor, [(20.3, 30.1, 28.9, 32.6)])
    assert windows.shape == (1, 3, WINDOW_HEIGHT, WINDOW_WIDTH)
    left, top = int(windows[0, 0, 0, 0]), int(windows[0, 1, 0, 0])
    assert torch.equal(windows[0], tensor[:, top : top + WINDOW_HEIGHT, left : left + WINDOW_WIDTH])
    expected = [20.3 - left, 30.1 - top, 28.9 - left, 32.6 - top]
    assert boxes[0].tolist() == pytest.approx(expected, abs=1e-5)
    middle = (boxes[0, :2] + boxes[0, 2:]) / 2
    assert (middle - torch.tensor([WINDOW_WIDTH / 2, WINDOW_HEIGHT / 2])).abs().max() <= 0.5


def test_beyond_the_edge_the_last_samples_are_repeated() -> None:
    tensor = ramp(3, 12, 16)
    windows, boxes = cut_windows(tensor, [(-3, -2, 2, 1), (14.5, 11, 16, 12)])
    assert (windows[0, 0].amin(), windows[0, 1].amin()) == (0, 0)
    assert (windows[1, 0, :, -8:] == 15).all()
    assert (windows[1, 1, -4:] == 11).all()
    # The part of a box outside is cut away.
    assert (boxes[0, 2:] - boxes[0, :2]).tolist() == pytest.approx([2, 1], abs=1e-5)


@pytest.mark.parametrize("box", [(4.0, 20.0, 52.0, 30.0), (20.0, 4.0, 40.0, 34.0)])
def test_a_box_that_is_too_large_is_shrunk_into_the_window(box: tuple[float, ...]) -> None:
    windows, boxes = cut_windows(ramp(3, 64, 64), [box])  # type: ignore[list-item]
    left, top, right, bottom = boxes[0].tolist()
    assert max((right - left) / WINDOW_WIDTH, (bottom - top) / WINDOW_HEIGHT) == pytest.approx(0.75)
    scale = (box[2] - box[0]) / (right - left)
    assert scale == pytest.approx((box[3] - box[1]) / (bottom - top))
    # The middle of the window shows what is in the middle of the box: samples are counted from their middles.
    shown = windows[
        0, :2, WINDOW_HEIGHT // 2 - 1 : WINDOW_HEIGHT // 2 + 1, WINDOW_WIDTH // 2 - 1 : WINDOW_WIDTH // 2 + 1
    ]
    middle = [(box[0] + box[2]) / 2 - 0.5, (box[1] + box[3]) / 2 - 0.5]
    assert shown.mean((1, 2)).tolist() == pytest.approx(middle, abs=1e-4)


def test_a_small_tensor_and_no_plates_work() -> None:
    windows, boxes = cut_windows(noise(3, 1, 2), [(0, 0, 2, 1)])
    assert torch.isfinite(small().forward(windows, boxes)).any()
    windows, boxes = cut_windows(noise(3, 8, 8), [])
    assert (windows.shape, boxes.shape) == ((0, 3, WINDOW_HEIGHT, WINDOW_WIDTH), (0, 4))
    assert small().read(windows, boxes) == []


# The network


def test_what_lies_far_from_the_box_does_not_matter() -> None:
    """And what lies in it does."""
    reader = small()
    windows, boxes = noise(1, 3, WINDOW_HEIGHT, WINDOW_WIDTH), torch.tensor([[3.0, 4.0, 9.0, 6.0]])
    before = reader(windows, boxes)
    far, near = windows.clone(), windows.clone()
    far[..., 18:] += 5
    near[..., 5:7] += 5
    assert torch.equal(reader(far, boxes), before)
    assert not torch.allclose(reader(near, boxes), before)


def test_a_plate_is_read_alike_wherever_it_lies_in_its_window() -> None:
    reader = small()
    tensor = noise(1, 3, WINDOW_HEIGHT, WINDOW_WIDTH)
    moved = tensor.roll((1, 3), (2, 3))
    # Far enough from the window's edges, where the convolutions see zeros.
    box = torch.tensor([[8.0, 4.0, 12.0, 5.5]])
    before, after = reader(tensor, box), reader(moved, box + torch.tensor([3.0, 1.0, 3.0, 1.0]))
    assert torch.allclose(before, after, atol=1e-4)


def test_only_characters_of_the_format_are_read() -> None:
    reader = small(dataclasses.replace(SMALL, alphabets=("AB", "01")))
    texts = reader.read(noise(20, 3, WINDOW_HEIGHT, WINDOW_WIDTH), torch.tensor([[8.0, 4.0, 14.0, 6.0]] * 20))
    assert len(set(texts)) > 1
    assert set(texts) <= {"A0", "A1", "B0", "B1"}


# Checkpoints


def test_a_checkpoint_reads_the_same(tmp_path: Path) -> None:
    reader = small()
    save_direct_reader(tmp_path / "r.safetensors", reader)
    loaded = load_direct_reader(tmp_path / "r.safetensors")
    assert loaded.config == SMALL
    windows, boxes = noise(4, 3, WINDOW_HEIGHT, WINDOW_WIDTH), torch.tensor([[8.0, 4.0, 14.0, 6.0]] * 4)
    assert torch.allclose(loaded(windows, boxes), reader(windows, boxes), atol=0.05)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 0},
        {"channels": 5},
        {"channels": 1 << 40},
        {"channels": True},
        {"hidden_channels": [6, 4]},
        {"hidden_channels": [6, 4, 1 << 30]},
        {"alphabets": []},
        {"alphabets": ["A"] * 40},
        {"alphabets": ["", "A"]},
        {"edge_fingerprint": "xyz"},
        {"edge_fingerprint": 5},
        {"kind": "plate-reader"},
    ],
)
def test_a_wrong_config_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "r.safetensors"
    save_direct_reader(path, small())
    config, _ = load_checkpoint(path, KIND)
    config = {**config, **change}
    kind = config.pop("kind")
    config.pop("format")
    save_checkpoint(path, kind, config, load_file(path))
    with pytest.raises(WeightsError, match=r"r\.safetensors: [^\n]+; [^\n]+$"):
        load_direct_reader(path)


def test_the_reader_of_an_edge_is_found_by_its_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_reader, "SHIPPED_FOLDER", tmp_path)
    save_direct_reader(tmp_path / "x-direct-reader.safetensors", small())
    found = find_shipped_direct_reader(bytes.fromhex(EDGE))
    assert found is not None
    assert found.config == SMALL
    assert find_shipped_direct_reader(bytes(8)) is None


# Plates


def test_plates_are_cut_where_they_lie_in_the_letterboxed_image() -> None:
    """A letterbox of 512 pixels halves an image of 1024. A plate at (512, 256) is then at sample (32, 16)."""
    plate = PrivateDetail("plate", (496.0, 248.0, 32.0, 16.0), "AB12CDE", readable=True)
    details = PrivateDetails(Path("private.json"), {PurePath("a"): (plate,)})
    seen: list[torch.Tensor] = []

    class Recorder(DirectReader):
        def read(self, windows: torch.Tensor, boxes: torch.Tensor) -> list[str]:
            seen.extend((windows, boxes))
            return ["AB12CXX"] * len(windows)

    plates = DirectPlates(Recorder(SMALL), details)
    tensor = ramp(3, 32, 64)
    letterbox = Letterbox.fit(1024, 512, 512)
    assert plates.score(PurePath("a.jpg"), letterbox, tensor) == {PLATE_CHARACTERS.name: Score(5, 7)}
    windows, boxes = seen[:2]
    assert (boxes[0, 2:] - boxes[0, :2]).tolist() == pytest.approx([2, 1])
    start = windows[0, :2, 0, 0]
    assert (start + (boxes[0, :2] + boxes[0, 2:]) / 2).tolist() == pytest.approx([32, 16])
    assert plates.score(PurePath("b.jpg"), letterbox, tensor) == {PLATE_CHARACTERS.name: Score(0, 0)}


# What ships


EDGES = [("scenes", "none", 0.35), ("scenes", "alley", 0.2), ("scenes", "street", 0.2)]
"""Detector and bottleneck, and the share of characters that is read at least on a few scenes; guessing reads 6 %."""


@pytest.mark.slow
@pytest.mark.parametrize(("detector", "bottleneck", "least"), EDGES)
def test_what_ships_reads_in_the_tensors_of_its_edge(
    drawn_scenes: Path, detector: str, bottleneck: str, least: float
) -> None:
    codec = FeatureCodec.load(detector, bottleneck=bottleneck, device="cpu")
    reader = find_shipped_direct_reader(codec.model.edge_fingerprint)
    assert reader is not None
    plates = DirectPlates(reader, read_private_details(drawn_scenes / "private.json"))
    scores = []
    for path in sorted((drawn_scenes / "images").iterdir()):
        image = codec.letterbox(path)
        scores.append(plates.score(PurePath(path.name), image.letterbox, codec.tensors_of([image])[0]))
    (score,) = summed(scores).values()
    assert score.count >= 21
    assert score.mean >= least


def test_each_reader_that_ships_is_for_an_edge_that_ships() -> None:
    edges = {
        SplitModel.load(detector, bottleneck, device="cpu").edge_fingerprint.hex() for detector, bottleneck, _ in EDGES
    }
    # Those of yolov5n are for a detector that does not ship.
    files = sorted(SHIPPED_FOLDER.glob("scenes-*-direct-reader.safetensors"))
    assert {load_direct_reader(path).config.edge_fingerprint for path in files} == edges
    assert len(files) == len(edges)


# Samples of other sizes


def test_the_grid_keeps_every_sample() -> None:
    tensor = ramp(3, 8, 12)
    assert on_grid(tensor, 8) is tensor
    repeated = on_grid(tensor, 16)
    assert repeated.shape == (3, 16, 24)
    assert torch.equal(repeated[:, ::2, 1::2], tensor)
    joined = on_grid(tensor, 2)
    assert joined.shape == (48, 2, 3)
    assert torch.equal(torch.nn.functional.pixel_shuffle(joined, 4), tensor)
    assert on_grid(tensor[None], 4).shape == (1, 12, 4, 6)


@pytest.mark.parametrize("pixels", [2, 4, 8, 16, 32])
def test_plates_are_read_in_samples_of_any_size(tmp_path: Path, pixels: int) -> None:
    """A box is where it was in the picture."""
    config = dataclasses.replace(SMALL, split=2, pixels_per_sample=pixels)
    save_direct_reader(tmp_path / "r.safetensors", small(config))
    reader = load_direct_reader(tmp_path / "r.safetensors")
    assert reader.config == config
    windows, boxes = cut_windows(on_grid(noise(3, 256 // pixels, 256 // pixels), pixels), [(5, 5, 12, 8)])
    assert windows.shape == (1, config.grid_channels, WINDOW_HEIGHT, WINDOW_WIDTH)
    assert [len(text) for text in reader.read(windows, boxes)] == [len(reader.alphabets)]


def test_a_checkpoint_from_before_is_for_samples_of_eight_pixels(tmp_path: Path) -> None:
    save_direct_reader(tmp_path / "r.safetensors", small())
    content, state = load_checkpoint(tmp_path / "r.safetensors", KIND)
    old = {name: value for name, value in content.items() if name not in ("split", "pixels_per_sample")}
    save_checkpoint(tmp_path / "old.safetensors", KIND, old, state)
    assert load_direct_reader(tmp_path / "old.safetensors").config == SMALL


def test_strange_sizes_and_splits_are_refused(tmp_path: Path) -> None:
    save_direct_reader(tmp_path / "r.safetensors", small())
    content, state = load_checkpoint(tmp_path / "r.safetensors", KIND)
    for changes in (
        *({"pixels_per_sample": pixels} for pixels in (4, 3, 0, -8, 128, 1 << 70, 8.0, True)),
        *({"split": split} for split in (-1, 10**9, "4")),
    ):
        save_checkpoint(tmp_path / "x.safetensors", KIND, {**content, **changes}, state)
        with pytest.raises(WeightsError, match="its config does not fit its weights"):
            load_direct_reader(tmp_path / "x.safetensors")


def test_what_ships_is_for_one_split() -> None:
    """Without AE, an edge has one name behind every layer."""
    path = next(iter(sorted(SHIPPED_FOLDER.glob("*-latent-direct-reader.safetensors"))))
    edge = bytes.fromhex(load_direct_reader(path).config.edge_fingerprint)
    assert find_shipped_direct_reader(edge) is not None
    assert find_shipped_direct_reader(edge, 3) is None
