"""The audit of many files: all sides see the same images, what is scored is what is written, failures are apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from audit_set import SIZE, AuditSet, make_audit_set
from pictures import save_texture
from PIL import Image
from torch import Tensor

from featcodec import FeatureCodec
from featcodec.errors import OutputError
from featcodec.images.letterbox import Letterbox
from featcodec.images.reading import IMAGE_SUFFIXES, read_image
from featcodec.pipeline.encode import encode_files
from featcodec.privacy.audit import Audit, Audited, PictureAttack, Side
from featcodec.privacy.audit_files import audit_files
from featcodec.privacy.measures import PLATE_CHARACTERS
from featcodec.privacy.readers import Measure, Original, Score
from featcodec.privacy.similarity import Similarity
from featcodec.system.paths import Source, expand_sources
from featcodec.video import open_video_codec

QP = 30


@dataclasses.dataclass
class Painter:
    """In place of an attack: remembers what it was given and paints one gray level."""

    level: float
    seen: list[tuple[Tensor, list[int]]] = dataclasses.field(default_factory=list)

    def on_tensors(
        self, tensors: Tensor, letterboxes: Sequence[Letterbox], qps: Sequence[int] | None = None
    ) -> list[np.ndarray]:
        self.seen.append((tensors, list(qps or ())))
        return [one.crop(np.full((one.height, one.width, 3), self.level, np.float32)) for one in letterboxes]


class Counter:
    """A reader that counts pixels of a level."""

    measures: tuple[Measure, ...] = (PLATE_CHARACTERS,)

    def scores(self, original: Original, pictures: dict[str, np.ndarray]) -> dict[str, dict[str, Score]]:
        return {
            name: {"plate_characters": Score(float((picture == 128).all(-1).sum()), picture[..., 0].size)}
            for name, picture in pictures.items()
        }


class Direct:
    """In place of a direct reader."""

    def __init__(self) -> None:
        self.seen: list[tuple[PurePath, tuple[int, ...]]] = []

    def score(self, image: PurePath, letterbox: Letterbox, tensor: Tensor) -> dict[str, Score]:
        self.seen.append((image, tuple(tensor.shape)))
        return {"plate_characters": Score(1, 4)}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> AuditSet:
    return make_audit_set(tmp_path_factory.mktemp("audit"), tiny_yolov5)


@pytest.fixture(scope="module")
def codec(checkpoints: AuditSet) -> FeatureCodec:
    return checkpoints.codec()


def sides_of(codec: FeatureCodec, **attacks: PictureAttack) -> list[Side]:
    latent = codec.without_bottleneck()
    return [
        Side(codec, "small", attacks or {"gray": Painter(0.5)}),
        Side(latent, "latent", attacks or {"gray": Painter(0.25)}),
    ]


def make_set(folder: Path) -> list[Source]:
    for number in range(3):
        save_texture(folder / f"{number % 2}" / f"{number}.png", *((120, 90), (50, 120))[number % 2], seed=number)
    return expand_sources([str(folder)], IMAGE_SUFFIXES | {".266"}, "files")


def run(audit: Audit, sources: list[Source], originals: dict[Path, Path] | None = None) -> list[Audited]:
    originals = originals or {source.path: source.path for source in sources}
    audit.check(sources, originals)
    return list(audit_files(audit, sources, originals, workers=2))


def test_both_sides_get_the_same_images_before_coding(tmp_path: Path, codec: FeatureCodec) -> None:
    sources = make_set(tmp_path / "in")
    first, second = sides_of(codec)
    outcomes = run(Audit([first, second], tmp_path / "out", [Similarity(), Counter()]), sources)
    assert [(outcome.source, outcome.error, outcome.qp) for outcome in outcomes] == [(one, None, "") for one in sources]
    for side in (first, second):
        seen = side.attacks["gray"].seen
        tensors = sorted((tensor for tensor, qps in seen if qps == [0]), key=lambda tensor: float(tensor.sum()))
        images = [side.codec.letterbox(read_image(source.path)) for source in sources]
        expected = sorted((side.codec.tensors_of([one]) for one in images), key=lambda tensor: float(tensor.sum()))
        assert len(tensors) == 3
        assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(tensors, expected, strict=True))
    for outcome in outcomes:
        small, latent = outcome.reconstructions
        assert [(one.side, one.attack) for one in (small, latent)] == [("bottleneck", "gray"), ("latent", "gray")]
        relative = outcome.source.relative
        assert small.output == tmp_path / "out/bottleneck-gray" / relative
        assert latent.output == tmp_path / "out/latent-gray" / relative
        assert (np.array(Image.open(small.output)) == 128).all()
        assert small.scores["plate_characters"].mean == 1
        assert latent.scores["plate_characters"].mean == 0
        assert small.scores["psnr"].mean > latent.scores["psnr"].mean, "128 is the mean of the pictures"
        assert outcome.on_original["plate_characters"].mean < 0.1
        assert "psnr" not in outcome.on_original
        assert outcome.on_one_colour["psnr"].mean == pytest.approx(small.scores["psnr"].mean, abs=0.5)
        assert outcome.on_one_colour["psnr"].mean >= small.scores["psnr"].mean - 0.01, "no other gray is closer"
        assert "plate_characters" not in outcome.on_one_colour
        assert outcome.side_by_side == tmp_path / "out/side-by-side" / relative


@pytest.mark.slow
def test_with_a_qp_both_sides_are_coded_at_it(tmp_path: Path, codec: FeatureCodec) -> None:
    sources = make_set(tmp_path / "in")[:1]
    sides = sides_of(codec)
    (outcome,) = run(Audit(sides, tmp_path / "out", [Similarity()], qp=QP), sources)
    assert outcome.qp == str(QP)
    for side in sides:
        ((tensor, qps),) = side.attacks["gray"].seen
        data = side.codec.encode(sources[0].path, qp=QP)
        assert torch.equal(tensor, side.codec.decoded_tensors([side.codec.decode_frame(data)]))
        assert qps == [QP]


@pytest.mark.slow
def test_a_stream_is_attacked_as_it_is_and_its_original_is_coded_at_its_qp(tmp_path: Path, codec: FeatureCodec) -> None:
    images = make_set(tmp_path / "in")
    assert not [one.error for one in encode_files(codec, images, tmp_path / "streams", QP, workers=1) if one.error]
    streams = expand_sources([str(tmp_path / "streams")], {".266"}, "files")
    originals = {one.path: other.path for one, other in zip(streams, images, strict=True)}
    streams[0].path.write_bytes(streams[0].path.read_bytes()[:-9])
    sides = sides_of(codec)
    cut, *rest = run(Audit(sides, tmp_path / "out", [Similarity()]), streams, originals)
    assert "truncated" in cut.error
    assert str(cut.source.path) in cut.error
    assert [(one.qp, one.error, one.original) for one in rest] == [(str(QP), None, one.path) for one in images[1:]]
    own = codec.decoded_tensors([codec.decode_frame(streams[1].path.read_bytes())])
    latent = sides[1].codec
    other = latent.decoded_tensors([latent.decode_frame(latent.encode(images[1].path, qp=QP))])
    for side, expected in zip(sides, (own, other), strict=True):
        seen = [(tensor, qps) for tensor, qps in side.attacks["gray"].seen if torch.equal(tensor, expected)]
        assert [qps for _, qps in seen] == [[QP]]


def test_raw_samples_are_compared_with_uncompressed_features(tmp_path: Path, codec: FeatureCodec) -> None:
    image = save_texture(tmp_path / "in/a.png", 96, 64)
    raw = dataclasses.replace(codec, video_codec=open_video_codec("none"))
    (tmp_path / "a.266").write_bytes(raw.encode(image))
    (stream,) = expand_sources([str(tmp_path / "a.266")], {".266"}, "files")
    sides = sides_of(codec)
    (outcome,) = run(Audit(sides, tmp_path / "out"), [stream], {stream.path: image})
    assert (outcome.qp, outcome.error) == ("raw", None)
    ((tensor, qps),) = sides[1].attacks["gray"].seen
    assert qps == [0]
    assert torch.allclose(tensor, sides[1].codec.tensors_of([codec.letterbox(image)]), atol=1e-5)


def test_what_reads_the_tensor_itself_makes_no_picture(tmp_path: Path, codec: FeatureCodec) -> None:
    sources = make_set(tmp_path / "in")[:1]
    direct = Direct()
    sides = [dataclasses.replace(side, direct={"direct": direct}) for side in sides_of(codec)]
    (outcome,) = run(Audit(sides, tmp_path / "out", [Similarity()]), sources)
    read = [one for one in outcome.reconstructions if one.attack == "direct"]
    assert [(one.side, one.output, one.scores["plate_characters"]) for one in read] == [
        ("bottleneck", None, Score(1, 4)),
        ("latent", None, Score(1, 4)),
    ]
    assert direct.seen == [(sources[0].relative, (6, 12, 12)), (sources[0].relative, (16, 12, 12))]


def test_the_pictures_stand_in_rows_latent_coding_first(tmp_path: Path, codec: FeatureCodec) -> None:
    image = save_texture(tmp_path / "in/a.png", 96, 64)
    (source,) = expand_sources([str(image)], IMAGE_SUFFIXES, "files")
    dark, light = Painter(0.125), Painter(0.75)
    sides = [
        Side(codec, "small", {"a": light, "b": light}),
        Side(codec.without_bottleneck(), "latent", {"a": dark, "b": dark}),
    ]
    (outcome,) = run(Audit(sides, tmp_path / "out", [Similarity()]), [source])
    canvas = np.array(Image.open(outcome.side_by_side))
    dark_panels, light_panels = ((canvas == level).all(-1) for level in (32, 191))
    dark_rows, light_rows = (np.flatnonzero(panels.sum(1) >= 2 * 96) for panels in (dark_panels, light_panels))
    assert (len(dark_rows), len(light_rows)) == (64, 64)
    assert dark_rows.max() < light_rows.min()
    assert np.array_equal(dark_panels[dark_rows[0]], light_panels[light_rows[0]]), "in line"
    original = np.array(Image.open(image))
    tops = [
        row for row in range(canvas.shape[0]) if any((canvas[row, x : x + 96] == original[0]).all() for x in range(40))
    ]
    assert len(tops) == 2, "each row has the original"


def test_files_that_exist_are_kept(tmp_path: Path, codec: FeatureCodec) -> None:
    sources = make_set(tmp_path / "in")
    own = {source.path: source.path for source in sources}
    audit = Audit(sides_of(codec), tmp_path / "out")
    existing = save_texture(tmp_path / "out/latent-gray" / sources[1].relative)
    with pytest.raises(OutputError, match="exists; use `overwrite`"):
        audit.check(sources, own)
    before = existing.read_bytes()
    outcomes = list(audit_files(audit, sources, own, workers=1))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert existing.read_bytes() == before
    dataclasses.replace(audit, overwrite=True).check(sources, own)
    with pytest.raises(OutputError, match="is an original"):
        Audit(sides_of(codec), tmp_path / "in", overwrite=True).check(
            sources, {sources[0].path: tmp_path / "in/side-by-side" / sources[0].relative}
        )


def test_an_image_that_cannot_be_read_fails_alone(tmp_path: Path, codec: FeatureCodec) -> None:
    sources = make_set(tmp_path / "in")
    sources[1].path.write_bytes(b"no picture")
    first, bad, last = run(Audit(sides_of(codec), tmp_path / "out"), sources)
    assert (first.error, last.error) == (None, None)
    assert bad.error.startswith(f"{sources[1].path}: ")
    assert bad.reconstructions == ()
    assert codec.image_size == SIZE
