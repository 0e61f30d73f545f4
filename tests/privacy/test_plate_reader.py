"""The reader of number plates: its format, its crops, its checkpoints, and how well the one that ships reads."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pictures import texture
from plate_set import crops_of, make_scenes
from safetensors.torch import load_file, save_file

from featcodec.errors import WeightsError
from featcodec.networks.catalogue import SHIPPED_FOLDER
from featcodec.networks.checkpoints import load_checkpoint
from featcodec.privacy.plate_reader import (
    CROP_HEIGHT,
    CROP_WIDTH,
    PlateReader,
    PlateReaderConfig,
    as_input,
    cut_plates,
    load_plate_reader,
    save_plate_reader,
    shipped_plate_reader,
)
from featcodec.privacy.plate_text import characters_read
from featcodec.privacy.readers import Pixels
from featcodec.privacy.text_head import MARGIN, PLATE_FORMAT
from featcodec.scenes.private import PLATE_PATTERN

SMALL = PlateReaderConfig(channels=(4, 6, 8, 8, 8), training={"stage": "plate-reader", "steps": 3})


def small(config: PlateReaderConfig = SMALL, seed: int = 0) -> PlateReader:
    """Random weights with which different crops have different texts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reader = PlateReader(config).requires_grad_(False)
    for part in reader.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.weight.fill_(3)
    reader.classes.bias.zero_()
    return reader


def noise(count: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, CROP_HEIGHT, CROP_WIDTH, 3), np.uint8)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pixels, list[str]]:
    """The plates of ten scenes that nobody has trained on."""
    crops, texts = crops_of(make_scenes(tmp_path_factory.mktemp("fresh"), 10))
    assert len(texts) >= 5
    return crops, texts


# The network


def test_it_reads_only_what_the_format_of_the_scenes_allows() -> None:
    read = small().read(noise(40))
    assert len(set(read)) > 20
    assert all(re.fullmatch(PLATE_PATTERN, text) for text in read)
    positions = re.findall(r"\[(.+?)\]\{(\d)\}", PLATE_PATTERN)
    allowed = [
        set(re.findall(f"[{characters}]", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")) for characters, _ in positions
    ]
    spelled = [one for one, (_, count) in zip(allowed, positions, strict=True) for _ in range(int(count))]
    assert [set(alphabet) for alphabet in PLATE_FORMAT] == spelled


def test_logits_are_a_row_a_position_and_minus_infinity_where_the_format_forbids() -> None:
    reader = small(dataclasses.replace(SMALL, alphabets=("AB", "12", "A1C")))
    assert reader.characters == "12ABC"
    logits = reader(as_input(noise(2)))
    assert logits.shape == (2, 3, 5)
    assert torch.isinf(logits[0]).tolist() == [
        [True, True, False, False, True],
        [False, False, True, True, True],
        [False, True, False, True, False],
    ]
    assert all(len(text) == 3 for text in reader.read(noise(2)))


def test_a_crop_is_read_alike_alone_and_among_many() -> None:
    crops = noise(70)
    together = small().read(crops)
    assert len(together) == 70
    assert [small().read(crops[index : index + 1])[0] for index in (0, 63, 64, 69)] == [
        together[index] for index in (0, 63, 64, 69)
    ]
    assert small().read(crops[:0]) == []


def test_it_learns_in_every_layer() -> None:
    reader = small().train().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(reader(as_input(noise(3)))[:, 0, 10:], torch.tensor([0, 1, 2]))
    loss.backward()
    for name, parameter in reader.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name == "attention.bias", name


def test_it_has_room_for_every_character_of_the_largest_format() -> None:
    assert sum(tensor.numel() for tensor in PlateReader(PlateReaderConfig()).state_dict().values()) * 2 < 400_000


# Crops


def test_a_crop_is_the_box_with_its_margin() -> None:
    """On a ramp, the colour tells the place."""
    columns, rows = np.meshgrid(np.arange(200), np.arange(100))
    picture = np.stack([columns, 2 * rows, 0 * rows], axis=-1).astype(np.uint8)
    (crop,) = cut_plates(picture, [(50, 30, 80, 20)])
    assert (crop.shape, crop.dtype) == ((CROP_HEIGHT, CROP_WIDTH, 3), np.uint8)
    scale = 80 * (1 + 2 * MARGIN) / CROP_WIDTH, 20 * (1 + 2 * MARGIN) / CROP_HEIGHT
    across = 50 - 80 * MARGIN + (np.arange(CROP_WIDTH) + 0.5) * scale[0] - 0.5
    down = 30 - 20 * MARGIN + (np.arange(CROP_HEIGHT) + 0.5) * scale[1] - 0.5
    np.testing.assert_allclose(crop[10, 2:-2, 0], across[2:-2], atol=1.1)
    np.testing.assert_allclose(crop[2:-2, 10, 1], 2 * down[2:-2], atol=2.1)


def test_a_scaled_copy_gives_the_same_crop() -> None:
    picture = cv2.GaussianBlur(texture(300, 200), (0, 0), 3)
    boxes = [(40.0, 30.0, 90.0, 24.0), (150.0, 120.0, 60.0, 18.0)]
    whole = cut_plates(picture, boxes)
    for size in ((150, 100), (450, 300)):
        scaled = cut_plates(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), boxes, (300, 200))
        assert np.abs(scaled.astype(float) - whole).mean() < 3
        assert np.abs(scaled[::-1].astype(float) - whole).mean() > 6


def test_beyond_the_edge_the_last_pixels_are_repeated() -> None:
    picture = texture(120, 80)
    (crop,) = cut_plates(picture, [(0.0, 0.0, 120.0, 80.0)])
    edge = int(CROP_WIDTH * MARGIN / (1 + 2 * MARGIN)) - 4
    assert (crop[16, 0] == crop[16, :edge]).all()
    inside = [(10.0, -50.0, 40.0, 70.0), (10.0, 0.0, 40.0, 20.0)]
    first, second = cut_plates(picture, inside)
    assert np.array_equal(first, second), "what lies outside was to be cut away"
    far = cut_plates(picture, [(-500.0, 20.0, 9.0, 9.0), (500.0, 500.0, 9.0, 9.0), (3.0, 3.0, 1e-9, 1e-9)])
    assert far.shape == (3, CROP_HEIGHT, CROP_WIDTH, 3)
    assert cut_plates(picture, []).shape == (0, CROP_HEIGHT, CROP_WIDTH, 3)


def test_a_wider_context_has_the_crop_in_its_middle() -> None:
    picture = cv2.GaussianBlur(texture(300, 200), (0, 0), 2)
    box = [(100.0, 80.0, 90.0, 24.0)]
    (crop,), (wide,) = cut_plates(picture, box), cut_plates(picture, box, context=1.5)
    assert wide.shape == (48, 192, 3)
    assert np.abs(wide[8:40, 32:160].astype(float) - crop).mean() < 2


# Checkpoints


def write(path: Path, **changes: Any) -> Path:
    """A checkpoint of `small` with another config; None removes a field."""
    config = {"format": 1, "kind": "plate-reader", **dataclasses.asdict(SMALL), **changes}
    save_file(small().state_dict(), path, {"featcodec": json.dumps({k: v for k, v in config.items() if v is not None})})
    return path


def test_round_trip_in_half_precision(tmp_path: Path) -> None:
    reader = small(dataclasses.replace(SMALL, alphabets=("AB", "12")))
    save_plate_reader(tmp_path / "a", reader)
    stored = load_file(tmp_path / "a")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16, torch.int64}
    loaded = load_plate_reader(tmp_path / "a")
    assert loaded.config == reader.config
    for name, tensor in loaded.state_dict().items():
        expected = reader.state_dict()[name]
        assert torch.equal(tensor, expected.half().float() if tensor.is_floating_point() else expected), name
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"channels": (4, 6, 8, 8)},
        {"channels": (4, 6, 8, 8, 9)},
        {"channels": (4, 6, 8, 8, 0)},
        {"channels": (4, 6, 8, 8, 10**9)},
        {"channels": (4, 6, 8, 8, "8")},
        {"channels": 8},
        {"channels": None},
        {"alphabets": None},
        {"alphabets": ()},
        {"alphabets": PLATE_FORMAT[1:]},
        {"alphabets": ("",) * 7},
        {"alphabets": ("A" * 10**6,) * 7},
        {"alphabets": ("ABCD",) * 7},
        {"alphabets": (1, 2)},
        {"alphabets": ("AB",) * 10**6},
        {"training": None},
    ],
    ids=lambda changes: f"{changes}"[:60],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write(tmp_path / "a", **changes)
    with pytest.raises(WeightsError) as caught:
        load_plate_reader(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: its config does not fit its weights")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300


def test_what_is_no_reader_is_refused(tmp_path: Path) -> None:
    assert load_plate_reader(write(tmp_path / "good")).config == SMALL
    (tmp_path / "text").write_text("no checkpoint")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "text", write(tmp_path / "other", kind="recnet")):
        with pytest.raises(WeightsError, match=re.escape(f"{path}: ")):
            load_plate_reader(path)


# The one that ships


def test_it_ships_small_and_says_how_it_came_to_be() -> None:
    path = SHIPPED_FOLDER / "plate-reader.safetensors"
    assert path.stat().st_size < 400_000
    config, state = load_checkpoint(path, "plate-reader")
    assert config["training"]["stage"] == "plate-reader"
    assert shipped_plate_reader().config.alphabets == PLATE_FORMAT
    assert all(tensor.dtype in (torch.float16, torch.int64) for tensor in state.values())


def read_share(crops: Pixels, texts: list[str]) -> float:
    return characters_read(zip(texts, shipped_plate_reader().read(crops), strict=True))


@pytest.mark.slow
def test_it_reads_the_plates_of_new_scenes(fresh: tuple[Pixels, list[str]]) -> None:
    crops, texts = fresh
    assert read_share(crops, texts) >= 0.95


def test_it_reads_on_where_an_attack_blurs_and_loses_contrast(fresh: tuple[Pixels, list[str]]) -> None:
    crops, texts = fresh
    blurred = np.stack([cv2.GaussianBlur(crop, (0, 0), 2) for crop in crops])
    assert read_share(blurred, texts) >= 0.9
    assert read_share((blurred * 0.3 + 60).astype(np.uint8), texts) >= 0.85


def test_it_guesses_where_nothing_is_left(fresh: tuple[Pixels, list[str]]) -> None:
    crops, texts = fresh
    nothing = np.broadcast_to(crops.mean((1, 2), keepdims=True), crops.shape).astype(np.uint8)
    assert read_share(nothing, texts) < 0.2
    assert read_share(crops, [*texts[1:], texts[0]]) < 0.3
