"""RecNet: the layers of the paper, what it mirrors, and checkpoints that are read back or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refusal_of
from safetensors.torch import save_file
from torch import Tensor, nn

from featcodec.errors import WeightsError
from featcodec.networks.features import Features, features_of_levels, levels_of
from featcodec.privacy.recnet import RecNet, RecNetConfig, load_recnet, save_recnet

YOLOV5M = RecNetConfig(192, 128, 64, (4, 2), "0011223344556677", {})
YOLOV5M_LATENT = dataclasses.replace(YOLOV5M, hidden_channels=0, channels=0)
SMALL = RecNetConfig(
    feature_channels=12,
    hidden_channels=6,
    channels=4,
    repeats=(2, 1),
    model_fingerprint="0011223344556677",
    training={"stage": "attack", "steps": 1200, "metrics": {"PSNR": 17.28}},
)
LATENT = dataclasses.replace(SMALL, hidden_channels=0, channels=0)
LEVELS = RecNetConfig(
    feature_channels=19,
    hidden_channels=0,
    channels=0,
    repeats=(0, 0),
    model_fingerprint="0011223344556677",
    training={},
    split=3,
    stages=(("c3", 7, 1), ("deconv", 6, 3), ("deconv", 5, 3), ("c3", 4, 2), ("deconv", 4, 4), ("deconv", 3, 6)),
    level_channels=(5, 6, 8),
    level_scales=(0, 1, 2),
)
FUSED = dataclasses.replace(LEVELS, hidden_channels=6, channels=4, fusion_scale=1)
INVERT = "its config does not fit its weights"


def inputs_of(config: RecNetConfig, batch: int = 2, side: int = 8) -> Features:
    """Random tensors that a RecNet takes."""
    chance = torch.Generator().manual_seed(side)
    return features_of_levels(
        [
            torch.randn(batch, level.channels, side >> level.scale, side >> level.scale, generator=chance)
            for level in config.inputs
        ]
    )


def small(config: RecNetConfig = SMALL, seed: int = 0) -> RecNet:
    """Random weights, and BatchNorm statistics that are not those of a fresh network."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recnet = RecNet(config)
        recnet.train()
        with torch.no_grad():
            recnet(inputs_of(config))
        return recnet.eval()


def write(path: Path, state: dict[str, Tensor] | None = None, of: RecNetConfig = SMALL, **changes: Any) -> Path:
    """A checkpoint of `small` with another config or other weights; None removes a field."""
    config = {"format": 1, "kind": "recnet", **dataclasses.asdict(of), **changes}
    config = {name: value for name, value in config.items() if value is not None}
    save_file(state or small(of).state_dict(), path, {"featcodec": json.dumps(config)})
    return path


def refusal(path: Path) -> str:
    return refusal_of(WeightsError, path, load_recnet)


def convolutions(recnet: RecNet) -> list[tuple[str, int, int, int, int]]:
    """(kind, inputs, outputs, kernel, stride) of every convolution, in the order of the network."""
    return [
        (type(part).__name__, part.in_channels, part.out_channels, part.kernel_size[0], part.stride[0])
        for part in recnet.modules()
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d))
    ]


def inverse_c3(width: int, repeats: int) -> list[tuple[str, int, int, int, int]]:
    return [
        ("Conv2d", width, 2 * width, 1, 1),
        *[("Conv2d", width, width, 3, 1), ("Conv2d", width, width, 1, 1)] * repeats,
        ("Conv2d", width, width, 1, 1),
        ("Conv2d", width, width, 1, 1),
    ]


PAPER_LATENT = [
    *inverse_c3(192, 4),
    ("ConvTranspose2d", 192, 96, 3, 2),
    *inverse_c3(96, 2),
    ("ConvTranspose2d", 96, 48, 3, 2),
    ("ConvTranspose2d", 48, 3, 6, 2),
]
PAPER_BOTTLENECK = [
    ("Conv2d", 64, 128, 3, 1),
    ("Conv2d", 128, 128, 3, 1),  # ResBlock
    ("Conv2d", 128, 128, 3, 1),
    ("Conv2d", 128, 192, 3, 1),
    *PAPER_LATENT,
]


@pytest.mark.parametrize(
    ("config", "channels", "layers"),
    [(YOLOV5M, 64, PAPER_BOTTLENECK), (YOLOV5M_LATENT, 192, PAPER_LATENT)],
    ids=["bottleneck", "latent"],
)
def test_yolov5m_has_the_papers_layers_and_shapes(
    config: RecNetConfig, channels: int, layers: list[tuple[str, int, int, int, int]]
) -> None:
    with torch.device("meta"):
        recnet = RecNet(config)
        assert recnet(torch.empty(2, channels, 64, 48)).shape == (2, 3, 512, 384)
    assert config.input_channels == channels
    assert convolutions(recnet) == layers


def test_latent_is_the_same_without_the_layers_that_invert_ae() -> None:
    with torch.device("meta"):
        whole, latent = (RecNet(config).state_dict() for config in (YOLOV5M, YOLOV5M_LATENT))
    beyond = {name for name in whole if name.startswith("restore.")}
    assert beyond
    assert {name: tensor.shape for name, tensor in whole.items() if name not in beyond} == {
        name: tensor.shape for name, tensor in latent.items()
    }


def test_batchnorm_and_silu_stand_behind_every_convolution_that_inverts_the_front_end() -> None:
    with torch.device("meta"):
        recnet = RecNet(YOLOV5M)
    leaves = [part for part in recnet.invert.modules() if not list(part.children())]
    assert [type(part) for part in leaves[1::3]] == [nn.BatchNorm2d] * (len(leaves) // 3)
    assert [type(part) for part in leaves[2::3]] == [nn.SiLU] * (len(leaves) // 3)
    assert all(part.bias is None for part in leaves[::3])
    assert not any(isinstance(part, nn.BatchNorm2d) for part in recnet.restore.modules())
    assert isinstance(recnet.restore[-1], nn.SiLU)


@pytest.mark.parametrize("config", [SMALL, LATENT], ids=["bottleneck", "latent"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12), (5, 7), (1, 1)])
def test_a_picture_is_eight_times_as_large(config: RecNetConfig, height: int, width: int) -> None:
    coded = torch.randn(2, config.input_channels, height, width)
    with torch.inference_mode():
        picture = small(config)(coded)
    assert picture.shape == (2, 3, 8 * height, 8 * width)
    assert torch.isfinite(picture).all()


def test_inverse_c3_is_the_papers() -> None:
    """Two halves behind a 1x1 Conv; one through residual inverse bottlenecks (3x3, then 1x1); both back and added."""
    block = small().invert[0]
    x = torch.randn(1, 12, 6, 6)
    with torch.inference_mode():
        first, second = block.expand(x)[:, :12], block.expand(x)[:, 12:]
        for repeat in block.repeats:
            first = first + repeat.body[1](repeat.body[0](first))
        assert torch.equal(block(x), block.through(first) + block.beside(second))


def test_deconv_inverts_the_positions_of_the_front_ends_convolution() -> None:
    """What a convolution with the same kernel and padding gathers into one sample is where the sample is spread to."""
    for deconv, kernel, padding in zip(small().invert[1::2], (3, 3), (1, 1), strict=False):
        assert (deconv[0].kernel_size[0], deconv[0].padding[0]) == (kernel, padding)
    last = small().invert[4][0]
    assert (last.kernel_size, last.padding, last.output_padding) == ((6, 6), (2, 2), (0, 0))
    nn.init.ones_(last.weight)
    sample = torch.zeros(1, 3, 4, 4)
    sample[0, 0, 2, 1] = 1
    spread = last(sample)[0, 0]
    gathered = nn.functional.conv2d(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 6, 6), stride=2, padding=2)
    assert gathered.shape[-2:] == (4, 4)
    assert spread.nonzero().min(0).values.tolist() == [2 * 2 - 2, 2 * 1 - 2]
    assert spread.nonzero().max(0).values.tolist() == [2 * 2 + 3, 2 * 1 + 3]


def test_it_is_made_in_eval_mode_and_learns_in_every_layer() -> None:
    recnet = RecNet(SMALL)
    assert not recnet.training
    recnet.train()
    recnet(torch.randn(2, 4, 4, 4)).square().mean().backward()
    for name, parameter in recnet.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("config", [SMALL, LATENT, LEVELS, FUSED], ids=["bottleneck", "latent", "levels", "fused"])
def test_round_trip(tmp_path: Path, config: RecNetConfig) -> None:
    recnet = small(config)
    save_recnet(tmp_path / "a.safetensors", recnet)
    loaded = load_recnet(tmp_path / "a.safetensors")
    assert loaded.config == config
    assert isinstance(loaded.config.repeats, tuple)
    assert loaded.state_dict().keys() == recnet.state_dict().keys()
    for name, tensor in recnet.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    coded = inputs_of(config, 1)
    with torch.inference_mode():
        assert torch.equal(loaded(coded), recnet(coded))


def test_a_checkpoint_from_before_says_nothing_of_stages_and_levels(tmp_path: Path) -> None:
    later = ("edge_fingerprint", "split", "stages", "level_channels", "level_scales", "fusion_scale")
    loaded = load_recnet(write(tmp_path / "a", **dict.fromkeys(later)))
    assert loaded.config == SMALL
    assert set(loaded.state_dict()) == set(small().state_dict())


# Several levels


@pytest.mark.parametrize("config", [LEVELS, FUSED], ids=["latent", "fused"])
def test_levels_become_one_picture(config: RecNetConfig) -> None:
    side = 8 * config.pixels_per_sample
    assert side == (32 if config is LEVELS else 64)
    assert small(config)(inputs_of(config)).shape == (2, 3, side, side)
    with pytest.raises(WeightsError, match="tensors was given 2; use the detector"):
        small(config)((torch.randn(1, 5, 8, 8), torch.randn(1, 6, 4, 4)))


@pytest.mark.parametrize("config", [LEVELS, FUSED], ids=["latent", "fused"])
def test_every_level_is_looked_at_and_every_weight_learns(config: RecNetConfig) -> None:
    recnet, coded = small(config).train(), [level.requires_grad_() for level in levels_of(inputs_of(config))]
    recnet(features_of_levels(coded)).square().mean().backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in coded)
    for name, parameter in recnet.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@settings(max_examples=20)
@given(st.data())
def test_any_levels_find_their_place(data: st.DataObject) -> None:
    scales = (0, *sorted(data.draw(st.lists(st.integers(0, 3), max_size=4))))
    channels = tuple(data.draw(st.integers(1, 5)) for _ in scales)
    blocks = data.draw(st.lists(st.just(("c3", 4, 1)), max_size=2))
    kernels = data.draw(st.lists(st.integers(2, 8), min_size=scales[-1], max_size=scales[-1] + 3))
    stages = (*blocks, *(("deconv", 4, kernel) for kernel in kernels), ("deconv", 3, 6))
    config = dataclasses.replace(
        LEVELS, feature_channels=sum(channels), stages=stages, level_channels=channels, level_scales=scales
    )
    with torch.inference_mode():
        picture = RecNet(config)(inputs_of(config))
    side = 8 * 2 ** (len(kernels) + 1 - scales[-1])
    assert picture.shape == (2, 3, side, side)


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": []},
        {"stages": [["c3", 3, 1]]},
        {"stages": [["c4", 7, 1], *LEVELS.stages[1:]]},
        {"stages": [["c3", 7], *LEVELS.stages[1:]]},
        {"stages": [["c3", 7, 2], *LEVELS.stages[1:]]},
        {"stages": [["c3", 7, 65], *LEVELS.stages[1:]]},
        {"stages": [["c3", 0, 1], *LEVELS.stages[1:]]},
        {"stages": [["c3", 1 << 70, 1], *LEVELS.stages[1:]]},
        {"stages": [["c3", 7, True], *LEVELS.stages[1:]]},
        {"stages": [[3, 7, 1], *LEVELS.stages[1:]]},
        {"stages": [*LEVELS.stages[:-1], ["deconv", 3, 1]]},
        {"stages": [*LEVELS.stages[:-1], ["deconv", 3, 9]]},
        {"stages": [*LEVELS.stages[:-1], ["deconv", 4, 6]]},
        {"stages": [["c3", 7, 60]] * 5 + [*LEVELS.stages]},
        {"stages": [["c3", 7, 0]] * 60 + [*LEVELS.stages]},
        {"stages": [["deconv", 3, 6]] * 12},
        {"stages": 7},
        {"repeats": [1, 0]},
        {"level_channels": [5, 6]},
        {"level_channels": [5, 6, 9]},
        {"level_channels": [], "level_scales": []},
        {"level_scales": [0, 1, 5]},
        {"level_scales": [0, 0, 2]},
        {"level_scales": [2, 1, 0]},
        {"fusion_scale": 1},
        {"feature_channels": 20},
        {"split": -1},
        {"split": 10**9},
        {"channels": 4, "hidden_channels": 6},
    ],
    ids=repr,
)
def test_levels_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert INVERT in refusal(write(tmp_path / "a", of=LEVELS, **changes))


def test_loaded_recnet_is_frozen_float32_on_the_cpu_and_can_be_trained_on(tmp_path: Path) -> None:
    save_recnet(tmp_path / "a", small().half())
    loaded = load_recnet(tmp_path / "a")
    assert not any(module.training for module in loaded.modules())
    for parameter in loaded.parameters():
        assert (parameter.dtype, parameter.device.type, parameter.requires_grad) == (torch.float32, "cpu", False)
    counts = {name: buffer for name, buffer in loaded.named_buffers() if name.endswith("num_batches_tracked")}
    assert {buffer.dtype for buffer in counts.values()} == {torch.int64}
    loaded.train().requires_grad_(True)(torch.randn(2, 4, 4, 4)).mean().backward()
    assert all(int(buffer) == 2 for buffer in loaded.state_dict().values() if buffer.dtype == torch.int64)


def test_checkpoint_of_a_later_minor_version_may_say_more(tmp_path: Path) -> None:
    assert load_recnet(write(tmp_path / "a", comment="hello")).config == SMALL


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"feature_channels": 13},
        {"feature_channels": 3},
        {"feature_channels": 0},
        {"feature_channels": "12"},
        {"feature_channels": 12.0},
        {"feature_channels": 10**400},
        {"hidden_channels": 5},
        {"hidden_channels": 0},
        {"hidden_channels": 1 << 40},
        {"channels": 5},
        {"channels": 0},
        {"channels": -4},
        {"channels": 4097},
        {"channels": None},
        {"hidden_channels": 0, "channels": 0},
        {"repeats": [1, 1]},
        {"repeats": [2, 2]},
        {"repeats": [2]},
        {"repeats": [2, 1, 1]},
        {"repeats": [2, -1]},
        {"repeats": [1 << 40, 1]},
        {"repeats": [2, 10**400]},
        {"repeats": [2.0, 1.0]},
        {"repeats": "21"},
        {"repeats": 2},
        {"repeats": {"2": 1}},
        {"repeats": [[2], [1]]},
        {"repeats": None},
        {"model_fingerprint": 7},
        {"model_fingerprint": None},
        {"training": None},
    ],
    ids=repr,
)
def test_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert INVERT in refusal(write(tmp_path / "a", **changes))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = small().state_dict()
    name = "invert.1.0.weight"
    missing = {key: tensor for key, tensor in state.items() if key != name}
    reshaped = {**state, name: state[name][:, :, :1, :1].contiguous()}
    for number, damaged in enumerate((missing, {**state, "spy.weight": torch.zeros(2)}, reshaped)):
        assert INVERT in refusal(write(tmp_path / f"{number}", damaged))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("name", ["invert.1.0.weight", "invert.0.expand.1.running_var"])
def test_weights_of_other_kinds_are_refused_or_become_float32(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    state = small().state_dict()
    path = write(tmp_path / "a", {**state, name: state[name].to(dtype)})
    try:
        loaded = load_recnet(path)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017  (either is right)
        return
    with torch.inference_mode():
        assert loaded(torch.randn(1, 4, 2, 2)).dtype == torch.float32


def test_large_claims_allocate_nothing(tmp_path: Path) -> None:
    """4096 channels and 64 repeats would be 50 GB of weights."""
    refusal(write(tmp_path / "a", feature_channels=4096, hidden_channels=4096, channels=4096, repeats=[64, 64]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["restore.0.weight", "invert.0.expand.1.running_mean"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, name: str, value: float) -> None:
    state = small().state_dict()
    state[name].view(-1)[0] = value
    assert "not finite" in refusal(write(tmp_path / "a", state))


@pytest.mark.parametrize("changes", [{"kind": "bottleneck"}, {"kind": None}, {"format": 2}, {"format": None}])
def test_other_kinds_and_formats_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    refusal(write(tmp_path / "a", **changes))


def test_pickles_and_missing_files_are_refused(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "a.safetensors")
    assert "not a safetensors checkpoint" in refusal(tmp_path / "a.safetensors")
    assert "no such file" in refusal(tmp_path / "absent.safetensors")
