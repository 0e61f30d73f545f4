"""The privacy audit: what is attacked, what is measured, what is written, and one failure at a time."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import make_bad_pictures, save_texture, texture
from PIL import Image
from refusals import assert_refused
from torch import Tensor, nn

from featcodec import FeatureCodec, bitstream
from featcodec.errors import BitstreamError, InputError, OutputError, WeightsError
from featcodec.images.reading import IMAGE_SUFFIXES, read_image
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.networks.checkpoints import fingerprint
from featcodec.pipeline.encode import encode_files
from featcodec.privacy.attack import Attack
from featcodec.privacy.attack_files import Attacked, attack_files, check_pictures
from featcodec.privacy.attack_results import read_attack_results
from featcodec.privacy.image_quality import image_quality
from featcodec.privacy.recnet import RecNet, RecNetConfig, load_recnet, save_recnet
from featcodec.system.paths import Source, expand_sources
from featcodec.video import open_video_codec

QP = 30
SIZE = 96
FEATURES, HIDDEN, CHANNELS = 16, 10, 6


class Scripted(nn.Module):
    """In place of a RecNet: ignores its input and paints; remembers what it was given."""

    def __init__(self, codec: FeatureCodec, paint: Any, channels: int = FEATURES) -> None:
        super().__init__()
        self.config = config_for(codec, channels)
        self.paint = paint
        self.seen: list[Tensor] = []

    def forward(self, coded: Tensor, qp: Tensor | None = None) -> Tensor:
        self.seen.append(coded)
        batch, _, height, width = coded.shape
        picture = torch.as_tensor(self.paint(8 * height, 8 * width), dtype=torch.float32)
        return picture.permute(2, 0, 1).expand(batch, 3, 8 * height, 8 * width)


def config_for(codec: FeatureCodec, channels: int = FEATURES) -> RecNetConfig:
    coded = 0 if codec.model.bottleneck is None else channels
    return RecNetConfig(
        feature_channels=FEATURES if coded else channels,
        hidden_channels=HIDDEN if coded else 0,
        channels=coded,
        repeats=(2, 1),
        model_fingerprint=codec.fingerprint.hex(),
        training={"stage": "test"},
    )


def random_recnet(config: RecNetConfig, seed: int = 0) -> RecNet:
    """With outputs that fill [0, 1] and go beyond; as it is made, they would nearly vanish."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recnet = RecNet(config)
    for part in recnet.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.fill_(3)
    return recnet.requires_grad_(False)


def gray(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 0.5)


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, image_size=SIZE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, codec: FeatureCodec, tiny_yolov5: Path) -> Path:
    """A folder with bottleneck, latent (RecNet), attack (RecNet on the bottleneck), all `.safetensors`."""
    folder = tmp_path_factory.mktemp("recnets")
    torch.manual_seed(0)
    fingerprint = codec.model.detector.fingerprint.hex()
    config = BottleneckConfig(FEATURES, HIDDEN, CHANNELS, -3.0, 3.0, codec.model.detector.split, fingerprint, {})
    save_bottleneck(folder / "bottleneck.safetensors", Bottleneck(config))
    learned = FeatureCodec.load(tiny_yolov5, bottleneck=folder / "bottleneck.safetensors")
    save_recnet(folder / "latent.safetensors", random_recnet(config_for(codec)))
    save_recnet(folder / "attack.safetensors", random_recnet(config_for(learned, CHANNELS)))
    return folder


@pytest.fixture(scope="module")
def learned(tiny_yolov5: Path, weights: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, bottleneck=weights / "bottleneck.safetensors", image_size=SIZE)


def sources_in(folder: Path) -> list[Source]:
    return expand_sources([str(folder)], IMAGE_SUFFIXES | {".266"}, "files")


def make_set(folder: Path, count: int = 5) -> Path:
    for number in range(count):
        save_texture(folder / f"{number % 2}" / f"{number}.png", *((120, 90), (50, 120))[number % 2], seed=number)
    return folder


def encode_set(codec: FeatureCodec, images: Path, folder: Path) -> Path:
    outcomes = list(encode_files(codec, sources_in(images), folder, QP, workers=1))
    assert not any(outcome.error for outcome in outcomes)
    return folder


def originals_of(sources: list[Source], images: Path) -> dict[Path, Path]:
    return {source.path: images / source.relative.with_suffix(".png") for source in sources}


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


# What is attacked


@pytest.mark.slow
def test_an_image_is_attacked_through_its_unclipped_features(learned: FeatureCodec, codec: FeatureCodec) -> None:
    batch = [codec.letterbox(texture(96, 64, seed)) for seed in range(2)]
    inputs = torch.stack([torch.from_numpy(image.pixels).permute(2, 0, 1) / 255 for image in batch])
    with torch.inference_mode():
        features = codec.model.detector.front(inputs)
        coded = learned.model.bottleneck.encode(features)
    latent, attack = Scripted(codec, gray), Scripted(learned, gray, CHANNELS)
    for subject, recnet, expected in ((codec, latent, features), (learned, attack, coded)):
        tight = dataclasses.replace(subject, packing=subject.packing.with_range(-0.1, 0.1, 8))
        assert expected.abs().max() > 0.1, "nothing to clip"
        assert len(Attack(tight, recnet).on_images(batch)) == 2
        assert torch.allclose(torch.cat(recnet.seen), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["codec", "learned"])
def test_a_stream_is_attacked_through_what_the_decoder_gets(name: str, request: pytest.FixtureRequest) -> None:
    subject: FeatureCodec = request.getfixturevalue(name)
    raw = dataclasses.replace(subject, video_codec=open_video_codec("none"))
    image = texture(96, 64)
    uncoded = raw.tensors_of([raw.letterbox(image)])
    recnet = Scripted(subject, gray, uncoded.shape[1])
    Attack(subject, recnet).on_streams([subject.decode_frame(raw.encode(image))])
    (coded,) = recnet.seen
    error = (coded - uncoded.clamp(raw.packing.quantizer.low, raw.packing.quantizer.high)).abs().max()
    assert 0 < error <= raw.packing.quantizer.step * 0.501


def test_a_real_recnet_gives_pictures_that_differ_with_the_image(codec: FeatureCodec) -> None:
    attack = Attack(codec, random_recnet(config_for(codec)))
    batch = [codec.letterbox(texture(96, 64, seed)) for seed in range(2)]
    first, second = attack.on_images(batch)
    assert first.shape == (64, 96, 3)
    assert first.dtype == np.float32
    assert (first.min(), first.max()) == (0, 1), "it was to be clipped"
    assert not np.allclose(first, second)
    (alone,) = attack.on_images(batch[1:])
    np.testing.assert_allclose(alone, second, atol=1e-4)


def test_the_border_is_cut_away(codec: FeatureCodec) -> None:
    """50x120 becomes 40x96 in 64x96, with 12 pixels of border on both sides."""

    def paint(height: int, width: int) -> np.ndarray:
        return np.stack(np.broadcast_arrays(np.arange(width) / 255, np.arange(height)[:, None] / 255, 0.5), axis=-1)

    (picture,) = Attack(codec, Scripted(codec, paint)).on_images([codec.letterbox(texture(50, 120))])
    assert picture.shape == (96, 40, 3)
    np.testing.assert_allclose(picture[0, :, 0] * 255, np.arange(12, 52), atol=1e-4)
    np.testing.assert_allclose(picture[:, 0, 1] * 255, np.arange(96), atol=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_picture_that_is_not_finite_is_refused_or_clipped(codec: FeatureCodec, value: float) -> None:
    attack = Attack(codec, Scripted(codec, lambda height, width: np.full((height, width, 3), value)))
    batch = [codec.letterbox(texture(96, 64))]
    if math.isnan(value):
        with pytest.raises(InputError, match="a picture that is not finite"):
            attack.on_images(batch)
    else:
        assert (attack.on_images(batch)[0] == 1).all()


def test_a_recnet_of_another_codec_is_refused_with_both_fingerprints(
    codec: FeatureCodec, learned: FeatureCodec, weights: Path
) -> None:
    for subject, name, other in ((codec, "attack", learned), (learned, "latent", codec)):
        path = weights / f"{name}.safetensors"
        with pytest.raises(WeightsError) as refusal:
            Attack.load(subject, path)
        for part in (f"{path}: ", subject.fingerprint.hex(), other.fingerprint.hex(), "`detector` and `bottleneck`"):
            assert part in str(refusal.value)


def test_a_forged_recnet_is_refused(tmp_path: Path, codec: FeatureCodec) -> None:
    """The fingerprint can be copied."""
    forged = dataclasses.replace(config_for(codec), feature_channels=32)
    save_recnet(tmp_path / "forged", RecNet(forged))
    with pytest.raises(WeightsError, match="takes 32 channels, not the model's 16"):
        Attack.load(codec, tmp_path / "forged")


def test_another_split_is_refused(tiny_yolov5: Path, codec: FeatureCodec) -> None:
    """Behind layer 3 the tensor has the same shape and the weights are the same."""
    other = FeatureCodec.load(tiny_yolov5, image_size=SIZE, split=3)
    with pytest.raises(WeightsError, match="inverts split 4"):
        Attack(other, Scripted(other, gray))
    target = codec.decode_frame(other.encode(texture(96, 64)))
    with pytest.raises(BitstreamError, match="has split 3"):
        Attack(codec, Scripted(codec, gray)).on_streams([target])


# Many files


@pytest.mark.slow
def test_streams_are_reconstructed_in_order_and_measured_against_their_originals(
    tmp_path: Path, codec: FeatureCodec, learned: FeatureCodec, weights: Path
) -> None:
    images = make_set(tmp_path / "in")
    sources = sources_in(encode_set(learned, images, tmp_path / "streams"))
    attack = Attack.load(learned, weights / "attack.safetensors")
    latent = Attack.load(codec, weights / "latent.safetensors")
    outcomes = list(
        attack_files(
            attack,
            sources,
            tmp_path / "out",
            originals=originals_of(sources, images),
            latent=latent,
            workers=2,
        )
    )
    assert [outcome.source for outcome in outcomes] == sources
    for outcome in outcomes:
        relative = outcome.source.relative.with_suffix(".png")
        assert outcome.error is None
        assert outcome.output == tmp_path / "out" / relative
        assert outcome.side_by_side == tmp_path / "out/side-by-side" / relative
        original = codec.letterbox(read_image(images / relative))
        (single,) = attack.on_streams([learned.decode_frame(outcome.source.path.read_bytes())])
        assert np.abs(pixels_of(outcome.output) - single * 255).max() <= 0.51
        inside = original.letterbox.crop(original.pixels)
        height, width, _ = inside.shape
        compared = inside.astype(np.float32) / 255
        assert dataclasses.astuple(outcome.quality) == pytest.approx(
            dataclasses.astuple(image_quality(compared, single)), abs=1e-3
        )
        (other,) = latent.on_images([original])
        assert dataclasses.astuple(outcome.latent_quality) == pytest.approx(
            dataclasses.astuple(image_quality(compared, other)), abs=1e-3
        )
        assert pixels_of(outcome.output).shape == inside.shape
        row = pixels_of(outcome.side_by_side)
        assert row.shape[1] > 3 * width
        assert any(
            np.array_equal(row[height // 2, x : x + width], inside[height // 2 - 6]) for x in range(row.shape[1])
        )


def test_images_are_their_own_originals_when_told_so_and_else_are_not_measured(
    tmp_path: Path, codec: FeatureCodec
) -> None:
    sources = sources_in(make_set(tmp_path / "in", 3))
    attack = Attack(codec, Scripted(codec, gray))
    for outcome in attack_files(attack, sources, tmp_path / "a", workers=1):
        assert (outcome.quality, outcome.side_by_side, outcome.error) == (None, None, None)
    assert not (tmp_path / "a/side-by-side").exists()
    own = {source.path: source.path for source in sources}
    for outcome in attack_files(attack, sources, tmp_path / "b", originals=own, workers=1):
        assert 5 < outcome.quality.psnr < 20
        assert (pixels_of(outcome.output) == 128).all()


def test_some_originals_are_enough_for_those_that_have_one(tmp_path: Path, codec: FeatureCodec) -> None:
    for number in range(4):
        save_texture(tmp_path / f"in/{number}.png", 96, 64, seed=number)
    sources = sources_in(tmp_path / "in")
    attack = Attack(codec, Scripted(codec, gray))
    own = {source.path: source.path for source in sources[1::2]}
    outcomes = list(attack_files(attack, sources, tmp_path / "out", originals=own, latent=attack))
    assert [outcome.quality is None for outcome in outcomes] == [True, False, True, False]
    assert [outcome.latent_quality for outcome in outcomes] == [outcome.quality for outcome in outcomes]


def test_a_perfect_attack_is_infinitely_good(tmp_path: Path, codec: FeatureCodec) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (96, 64), "white").save(tmp_path / "in/white.png")
    (source,) = sources_in(tmp_path / "in")
    attack = Attack(codec, Scripted(codec, lambda height, width: gray(height, width) * 9))
    (outcome,) = attack_files(attack, [source], tmp_path / "out", originals={source.path: source.path})
    assert (outcome.quality.psnr, outcome.quality.edge_psnr) == (math.inf, math.inf)


@pytest.mark.slow
def test_what_goes_wrong_costs_one_line_each_and_the_others_are_done(
    tmp_path: Path, codec: FeatureCodec, tiny_yolov5: Path
) -> None:
    images = make_set(tmp_path / "in", 6)
    streams = encode_set(codec, images, tmp_path / "streams")
    good, cut, resized, unreadable, missing, split = sources = sources_in(streams)
    cut.path.write_bytes(cut.path.read_bytes()[:-9])
    save_texture(images / resized.relative.with_suffix(".png"), 91, 91)
    (images / unreadable.relative.with_suffix(".png")).write_bytes(b"no picture")
    (images / missing.relative.with_suffix(".png")).unlink()
    other = FeatureCodec.load(tiny_yolov5, image_size=SIZE, split=3)
    split.path.write_bytes(other.encode(read_image(images / split.relative.with_suffix(".png"))))
    attack = Attack(codec, Scripted(codec, gray))
    outcomes = list(attack_files(attack, sources, tmp_path / "out", originals=originals_of(sources, images)))
    reasons = [None, "truncated", "91x91 pixels", "not a readable image", "no such file", "has split 3"]
    assert [outcome.source for outcome in outcomes] == sources
    for outcome, reason in zip(outcomes, reasons, strict=True):
        if reason is None:
            assert outcome.error is None
        else:
            assert_one_line(outcome, reason)
    assert pixels_of(tmp_path / "out" / good.relative.with_suffix(".png")).any()
    assert len(list((tmp_path / "out").rglob("*.*"))) == 2


def assert_one_line(outcome: Attacked, reason: str) -> None:
    message = str(outcome.error)
    assert str(outcome.source.path) in message
    assert reason in message
    assert "\n" not in message
    assert outcome.quality is None


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(RuntimeError("can't allocate memory\nand a long trace"), "can't allocate memory"), (MemoryError(), "memory")],
)
def test_networks_that_fail_on_one_image_cost_that_image(
    tmp_path: Path, codec: FeatureCodec, failure: Exception, reason: str
) -> None:
    class Failing(Scripted):
        def forward(self, coded: Tensor, qp: Tensor | None = None) -> Tensor:
            if any(torch.allclose(tensor, bad, atol=1e-4) for tensor in coded):
                raise failure
            return super().forward(coded)

    for number in range(5):
        save_texture(tmp_path / f"in/{number}.png", 96, 64, seed=number)
    bad = codec.tensors_of([codec.letterbox(texture(96, 64, 2))])[0]
    outcomes = list(attack_files(Attack(codec, Failing(codec, gray)), sources_in(tmp_path / "in"), tmp_path / "out"))
    assert [outcome.source.path.stem for outcome in outcomes if outcome.error] == ["2"]
    assert_one_line(outcomes[2], reason)
    assert "long trace" not in str(outcomes[2].error)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "3.png", "4.png"]


def test_a_disk_that_refuses_costs_its_pictures(tmp_path: Path, codec: FeatureCodec) -> None:
    sources = sources_in(make_set(tmp_path / "in", 4))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/1").write_text("a file where a folder should be")
    outcomes = list(attack_files(Attack(codec, Scripted(codec, gray)), sources, tmp_path / "out", workers=1))
    assert ["cannot be written" in str(outcome.error) for outcome in outcomes] == [False, False, True, True]


@pytest.mark.slow
def test_a_rare_shape_holds_back_a_bounded_number_of_results(
    tmp_path: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    total, ahead = 100, 64  # as in decoding: 32 that overtake, and what is read or computed beside them
    rare, usual = (codec.encode(texture(*size), QP) for size in ((50, 120), (120, 50)))
    for number in range(total):
        (tmp_path / f"{number:03d}.266").write_bytes(rare if number in (0, 60) else usual)
    read: list[Path] = []
    original = bitstream.read_file

    def counted(path: Path) -> bytes:
        read.append(path)
        return original(path)

    monkeypatch.setattr(bitstream, "read_file", counted)
    sources = sources_in(tmp_path)
    attack = Attack(codec, Scripted(codec, gray))
    for done, outcome in enumerate(attack_files(attack, sources, tmp_path / "out", workers=1)):
        assert outcome.source == sources[done]
        assert outcome.error is None
        assert len(read) <= done + ahead
    assert len(read) == total


# What must not be destroyed


def test_pictures_that_exist_are_in_the_way_unless_they_may_be_overwritten(tmp_path: Path) -> None:
    sources = sources_in(make_set(tmp_path / "in", 2))
    own = {source.path: source.path for source in sources}
    check_pictures(sources, tmp_path / "out", own, overwrite=False)
    for name in ("1/1.png", "side-by-side/1/1.png"):
        path = save_texture(tmp_path / "out" / name)
        with pytest.raises(OutputError, match=rf"{name}: exists; use `overwrite`"):
            check_pictures(sources, tmp_path / "out", own, overwrite=False)
        check_pictures(sources, tmp_path / "out", own, overwrite=True)
        path.unlink()


def test_sources_and_originals_are_never_overwritten(tmp_path: Path) -> None:
    images = make_set(tmp_path / "in", 2)
    sources = sources_in(images)
    for folder in (images, images / "0/..", tmp_path / "link"):
        if folder.name == "link":
            folder.symlink_to(images)
        with pytest.raises(OutputError, match="is an original"):
            check_pictures(sources, folder, overwrite=True)
    stream = Source(tmp_path / "0.266", Path("0.266"))
    with pytest.raises(OutputError, match="is an original"):
        check_pictures([stream], images / "0", {stream.path: images / "0/0.png"}, overwrite=True)


def test_a_source_folder_called_side_by_side_is_refused_only_where_names_meet(tmp_path: Path) -> None:
    sources = [Source(tmp_path / name, Path(name)) for name in ("a.266", "Side-by-side/A.266")]
    check_pictures(sources, tmp_path / "out", overwrite=False)
    with pytest.raises(OutputError, match="two pictures would have this name"):
        check_pictures(sources, tmp_path / "out", {sources[0].path: tmp_path / "b.png"}, overwrite=False)


# The command


@pytest.fixture
def run(run: Any) -> Any:
    return partial(run, "invert")


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory, learned: FeatureCodec) -> Path:
    """A folder with in/ and streams/ of the bottleneck."""
    folder = tmp_path_factory.mktemp("audit")
    encode_set(learned, make_set(folder / "in", 3), folder / "streams")
    return folder


@pytest.fixture
def model(tiny_yolov5: Path, weights: Path) -> list[object]:
    bottleneck = weights / "bottleneck.safetensors"
    return ["--detector", tiny_yolov5, "--bottleneck", bottleneck, "--recnet", weights / "attack.safetensors"]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_streams_alone_are_reconstructed(run: Any, audit: Path, model: list[object], tmp_path: Path) -> None:
    code, out, err = run(audit / "streams", "-o", tmp_path / "out", *model)
    assert (code, err) == (0, "")
    assert out.startswith("3 inverted, 0 failed, ")
    assert out.endswith(f"-> {tmp_path / 'out'}\n")
    assert out.count("\n") == 1
    assert sorted(snapshot(tmp_path / "out")) == ["0/0.png", "0/2.png", "1/1.png", "attack.csv"]
    for result in read_attack_results(tmp_path / "out"):
        assert (result.original, result.label, result.qp) == ("", "bottleneck", str(QP))
        assert math.isnan(result.psnr)
        assert math.isnan(result.edge_psnr)
    before = snapshot(tmp_path)
    assert_refused(run(audit / "streams", "-o", tmp_path / "out", *model), "0.png: exists; use --overwrite")
    assert snapshot(tmp_path) == before
    assert run(audit / "streams", "-o", tmp_path / "out", *model, "--overwrite")[0] == 0


@pytest.mark.slow
def test_originals_give_a_table_with_the_mean_and_pictures_side_by_side(
    run: Any, audit: Path, model: list[object], weights: Path, tmp_path: Path
) -> None:
    arguments = [audit / "streams", "-o", tmp_path / "out", *model, "--originals", audit / "in"]
    code, out, err = run(*arguments, "--latent-recnet", weights / "latent.safetensors", "--json")
    report = json.loads(out)
    assert (code, err, report["inverted"], report["failed"]) == (0, "", 3, 0)
    for measure in ("psnr", "edge_psnr", "latent_psnr", "latent_edge_psnr"):
        values = [entry[measure] for entry in report["files"]]
        assert report[measure] == pytest.approx(sum(values) / 3)
    assert report["psnr"] != report["latent_psnr"]
    for entry in report["files"]:
        assert Path(entry["output"]).is_file()
        assert Path(entry["side_by_side"]).is_file()
    code, out, err = run(*arguments, "--overwrite")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["image", "PSNR", "edge-PSNR"] in rows
    for entry in report["files"]:
        name = Path(entry["source"]).relative_to(audit / "streams").as_posix()
        assert [name, f"{entry['psnr']:.2f}", f"{entry['edge_psnr']:.2f}"] in rows
    assert ["mean", "of", "3", f"{report['psnr']:.2f}", f"{report['edge_psnr']:.2f}"] in rows
    assert out.splitlines()[-1].startswith("3 inverted, 0 failed")


@pytest.mark.slow
def test_the_folders_table_says_what_is_printed(
    run: Any, audit: Path, model: list[object], learned: FeatureCodec, weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    code, out, _ = run(audit / "streams", "-o", output, *model, "--originals", audit / "in", "--json")
    assert code == 0
    entries = {Path(entry["output"]): entry for entry in json.loads(out)["files"]}
    results = read_attack_results(output)
    assert [result.picture for result in results] == ["0/0.png", "0/2.png", "1/1.png"]
    for result in results:
        entry = entries[output / result.picture]
        assert [result.psnr, result.edge_psnr] == pytest.approx([entry["psnr"], entry["edge_psnr"]], rel=1e-8)
        assert Path(result.original) == audit / "in" / result.picture
        assert (result.label, result.qp, result.fingerprint) == ("bottleneck", str(QP), learned.fingerprint.hex())
        assert result.recnet == fingerprint(load_recnet(weights / "attack.safetensors").state_dict()).hex()
    # Images have no QP, and another run adds to the table.
    single = [audit / "in/0/0.png", "-o", output, *model, "--image-size", SIZE, "--json"]
    (entry,) = json.loads(run(*single)[1])["files"]
    again = read_attack_results(output)
    assert [result for result in again if result.picture != "0.png"] == results
    (added,) = [result for result in again if result.picture == "0.png"]
    assert (added.qp, added.original, added.label) == ("", str(audit / "in/0/0.png"), "bottleneck")
    assert added.psnr == pytest.approx(entry["psnr"], rel=1e-8)


def test_the_table_calls_direct_features_latent(
    run: Any, audit: Path, tiny_yolov5: Path, weights: Path, tmp_path: Path
) -> None:
    model = ["--detector", tiny_yolov5, "--recnet", weights / "latent.safetensors", "--image-size", SIZE]
    assert run(audit / "in/0/0.png", "-o", tmp_path, *model)[0] == 0
    assert [result.label for result in read_attack_results(tmp_path)] == ["latent"]


def test_a_foreign_attack_csv_is_refused_before_anything_is_made(
    run: Any, audit: Path, model: list[object], tmp_path: Path
) -> None:
    (tmp_path / "attack.csv").write_text("something,else\n")
    outcome = run(audit / "streams", "-o", tmp_path, *model, "--overwrite")
    assert_refused(outcome, f"{tmp_path / 'attack.csv'}: has other columns", "remove it and run")
    assert snapshot(tmp_path) == {"attack.csv": b"something,else\n"}


@pytest.mark.slow
def test_images_are_measured_against_themselves_or_against_other_originals(
    run: Any, audit: Path, model: list[object], weights: Path, tmp_path: Path
) -> None:
    common = [audit / "in", *model, "--image-size", SIZE, "--json"]
    latent = ["--latent-recnet", weights / "latent.safetensors"]
    own = json.loads(run(*common, *latent, "-o", tmp_path / "own")[1])
    assert own["inverted"] == 3
    assert (tmp_path / "own/side-by-side/0/0.png").is_file()
    same = json.loads(run(*common, "-o", tmp_path / "same", "--originals", audit / "in")[1])
    assert same["psnr"] == own["psnr"]
    assert "latent_psnr" not in same
    for number in range(3):
        save_texture(tmp_path / f"others/{number}.jpg", *((120, 90), (50, 120))[number % 2], seed=number + 9)
    other = json.loads(run(*common, "-o", tmp_path / "other", "--originals", tmp_path / "others")[1])
    assert other["inverted"] == 3
    assert other["psnr"] != own["psnr"]
    square = json.loads(run(*common, "-o", tmp_path / "square", "--square")[1])
    assert pixels_of(tmp_path / "square/1/1.png").shape == pixels_of(tmp_path / "own/1/1.png").shape
    assert square["psnr"] != own["psnr"]


def test_latent_coding_needs_no_bottleneck(
    run: Any, audit: Path, tiny_yolov5: Path, weights: Path, tmp_path: Path
) -> None:
    model = ["--detector", tiny_yolov5, "--recnet", weights / "latent.safetensors", "--image-size", SIZE]
    assert run(audit / "in", "-o", tmp_path, *model)[0] == 0


@pytest.mark.slow
def test_infinite_and_undefined_decibels_are_null_and_said(
    run: Any, codec: FeatureCodec, tiny_yolov5: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name, size, colour in (("flat", (96, 96), "white"), ("thin", (96, 1), "white"), ("usual", (96, 96), "gray")):
        Image.new("RGB", size, colour).save(tmp_path / f"in/{name}.png")
    recnet = random_recnet(config_for(codec))
    last = recnet.invert[-1][1]
    last.weight.data.zero_()
    last.bias.data.fill_(3.0)  # white, after SiLU and clipping
    save_recnet(tmp_path / "white.safetensors", recnet)
    arguments = [tmp_path / "in", "-o", tmp_path / "out", "--detector", tiny_yolov5]
    arguments += ["--recnet", tmp_path / "white.safetensors", "--image-size", SIZE]
    code, out, err = run(*arguments, "--json")
    report = json.loads(out)
    entries = {Path(entry["source"]).stem: entry for entry in report["files"]}
    assert code == 0
    assert (entries["flat"]["psnr"], entries["flat"]["edge_psnr"]) == (None, None)
    assert entries["thin"]["edge_psnr"] is None
    assert report["psnr"] == entries["usual"]["psnr"] == pytest.approx(20 * math.log10(255 / 127), abs=1e-3)
    assert report["edge_psnr"] is None
    assert [line.split(": ", 2)[2] for line in err.splitlines()] == [
        "exact, so infinite and not in the mean PSNR: 2 images",
        "exact, so infinite and not in the mean edge-PSNR: 2 images",
        "below 3x3 pixels, so not in the mean edge-PSNR: 1 images",
    ]
    out = run(*arguments, "--overwrite")[1]
    assert ["flat.png", "inf", "inf"] in [line.split() for line in out.splitlines()]


@pytest.mark.slow
def test_what_has_no_original_or_is_damaged_costs_one_line_each(
    run: Any, audit: Path, model: list[object], tmp_path: Path
) -> None:
    bad = make_bad_pictures(tmp_path / "in")
    save_texture(tmp_path / "in/good.png")
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out", *model, "--image-size", SIZE)
    assert code == 1
    assert f"1 inverted, {len(bad)} failed" in out
    assert len(err.splitlines()) == len(bad)
    assert sorted(snapshot(tmp_path / "out")) == ["attack.csv", "good.png", "side-by-side/good.png"]

    save_texture(tmp_path / "some/0/0.png", 120, 90)
    arguments = [audit / "streams", *model, "--originals"]
    code, out, err = run(*arguments, tmp_path / "some", "-o", tmp_path / "some-out", "--json")
    report = json.loads(out)
    assert (code, report["inverted"], report["failed"], err.count("\n")) == (1, 1, 2, 2)
    assert f"{audit / 'streams/0/2.266'}: {tmp_path / 'some'} has no image of that name, or several; " in err
    code, out, err = run(*arguments, tmp_path / "in", "-o", tmp_path / "none-out")
    assert (code, out, err.count("\n")) == (1, "", 4)
    assert "has no original for any of the 3 files" in err
    assert not (tmp_path / "none-out").exists()


def test_streams_and_images_do_not_mix(run: Any, audit: Path, model: list[object], tmp_path: Path) -> None:
    save_texture(tmp_path / "x.png")
    outcome = run(audit / "streams", tmp_path / "x.png", "-o", tmp_path / "out", *model)
    assert_refused(outcome, "0.266 is a bitstream and ", "x.png is an image")
    assert not (tmp_path / "out").exists()


def test_a_latent_attack_needs_originals(
    run: Any, audit: Path, model: list[object], weights: Path, tmp_path: Path
) -> None:
    code, out, err = run(
        audit / "streams", "-o", tmp_path / "out", *model, "--latent-recnet", weights / "latent.safetensors"
    )
    assert (code, out) == (2, "")
    assert "needs --originals" in " ".join(err.split())


def test_output_is_required(run: Any, audit: Path, tmp_path: Path) -> None:
    assert run(audit / "streams", "--recnet", tmp_path / "r")[0] == 2


@pytest.mark.slow
def test_without_a_shipped_recnet_one_has_to_be_given(run: Any, audit: Path, tiny_yolov5: Path, tmp_path: Path) -> None:
    code, _, err = run(audit / "streams", "-o", tmp_path / "out", "--detector", tiny_yolov5, "--bottleneck", "none")
    assert code == 1
    assert "train one with `featcodec train attack`" in err


@pytest.mark.slow
def test_recnets_of_other_codecs_are_one_line(
    run: Any,
    audit: Path,
    model: list[object],
    weights: Path,
    codec: FeatureCodec,
    learned: FeatureCodec,
    tmp_path: Path,
) -> None:
    both = codec.fingerprint.hex(), learned.fingerprint.hex()
    common = [audit / "in", "-o", tmp_path / "out", *model]
    assert_refused(run(*common, "--recnet", weights / "latent.safetensors"), *both, "latent.safetensors: ")
    wrong = ["--latent-recnet", weights / "attack.safetensors"]
    assert_refused(run(*common, *wrong), *both, "attack.safetensors: ", "(latent); give the --detector")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"foreign", "bottleneck", "folder"])
def test_a_hostile_recnet_is_one_line(
    run: Any, audit: Path, model: list[object], weights: Path, tmp_path: Path, content: bytes | str | None
) -> None:
    path = tmp_path / "recnet.safetensors"
    if content == "bottleneck":
        path = weights / "bottleneck.safetensors"
    elif content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    outcome = run(audit / "streams", "-o", tmp_path / "out", *model, "--recnet", path)
    assert_refused(outcome, str(path))
    assert not (tmp_path / "out").exists()


def test_an_output_in_the_way_is_one_line(run: Any, audit: Path, model: list[object], tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"somebody's work")
    assert_refused(run(audit / "streams", "-o", tmp_path / "out", *model, "--overwrite"), "out: is not a folder")
    before = snapshot(audit)
    assert_refused(run(audit / "in", "-o", audit / "in", *model, "--overwrite"), "is an original")
    assert snapshot(audit) == before
    assert_refused(run(audit / "in", "-o", f"{tmp_path}/{'x' * 300}", *model), "x" * 300)


def test_the_image_size_is_the_librarys_and_a_wrong_one_is_one_line(
    run: Any, audit: Path, model: list[object], tmp_path: Path
) -> None:
    from featcodec.cli import invert
    from featcodec.codec import DEFAULT_IMAGE_SIZE

    defaults = {parameter.name: parameter.default for parameter in invert.command.params}
    assert defaults["image_size"] == DEFAULT_IMAGE_SIZE
    outcome = run(audit / "in", "-o", tmp_path / "out", *model, "--image-size", 100)
    assert_refused(outcome, "image size 100")
