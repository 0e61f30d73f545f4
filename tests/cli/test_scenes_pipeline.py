"""The whole pipeline on drawn scenes with the weights that ship and real VVC: figures that are stored, and laws.

Nothing else is needed for it, so it runs everywhere: encode, decode, evaluate, sweep, bd, invert and report, as their
commands (tests/make_expected.py, which also writes the expected figures).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_expected import CURVES, EXPECTED, MODEL, featcodec, names_of_weights, run_pipeline

from featcodec import FeatureCodec
from featcodec.bitstream import read_file, unpack
from featcodec.codec import DEFAULT_QP
from featcodec.evaluation.points import PointFile
from featcodec.images.annotations import read_annotations
from featcodec.images.reading import IMAGE_SUFFIXES, read_image
from featcodec.pipeline import encode_files
from featcodec.system.paths import expand_sources

pytestmark = pytest.mark.slow

# How far a figure may be from the stored one: (relative, absolute). On other processors, and with other versions of
# torch, features differ in their last bits. A few samples then round the other way, VVC's search takes other decisions
# from there on, and a box near a threshold comes or goes. Seen with features disturbed at random by 1e-6 of themselves,
# as other orders of summation do, and by 1e-5, which is more than that: bytes moved by 0.09 and 0.10 %, AP50 of a point
# by 0.24 and 1.1, AP by 0.27 and 0.7, PSNR by 0.04 and 0.10 dB, edge-PSNR by 0.004 and 0.008 dB, BD-rate by 1.3 and 3.0
# points, BD-PSNR by 0.02 and 0.23 dB; what is not coded did not move. A regression (a shifted tile or QP, another clip
# range, letterbox, NMS or colour order) moves most figures by far more: other weights of the same training moved bytes
# by 30 %, AP50 by 4 points and PSNR by 10 dB.
CODED = {
    "bytes": (0.01, 0),
    "bpp": (0.01, 0),
    "ap50": (0, 1.5),
    "ap": (0, 1.5),
    "psnr": (0, 0.2),
    "edge_psnr": (0, 0.03),
    "bd_rate": (0, 5),
    "bd_psnr": (0, 0.4),
}
UNCODED = {
    "ap50": (0, 0.5),
    "ap": (0, 0.5),
    "psnr": (0, 0.03),
    "edge_psnr": (0, 0.03),
    "latent_psnr": (0, 0.03),
    "latent_edge_psnr": (0, 0.03),
    # Four of 105 characters.
    "original": (0, 0.04),
    "latent": (0, 0.04),
    "reconstruction": (0, 0.04),
}
"""By the figure's name; what stands in neither is a count, and exact."""


@dataclass(frozen=True)
class Run:
    """What `run_pipeline` left and said."""

    folder: Path
    figures: dict[str, Any]

    @property
    def images(self) -> list[Path]:
        """The scenes."""
        return sorted((self.folder / "scenes/images").iterdir())

    @property
    def streams(self) -> list[Path]:
        """Their bitstreams."""
        return sorted((self.folder / "streams").iterdir())


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pipeline")
    return Run(folder, run_pipeline(folder))


@pytest.fixture(scope="module")
def expected() -> Any:
    return json.loads(EXPECTED.read_text())


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    return FeatureCodec.load("scenes", device="cpu")


# What is stored.


def test_the_stored_figures_are_of_the_weights_that_ship(expected: Any) -> None:
    assert expected["weights"] == names_of_weights(), "run tests/make_expected.py and look at what it changed"


def figures_in(part: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every figure with its path."""
    if not isinstance(part, dict):
        yield name, part
        return
    for key, value in part.items():
        yield from figures_in(value, f"{name}/{key}" if name else key)


@pytest.mark.parametrize(
    "part", ["scenes", "encode", "decode", "evaluate", "sweep", "bd", "invert", "plates", "report"]
)
def test_figures_are_the_stored_ones(ran: Run, expected: Any, part: str) -> None:
    found, stored = (dict(figures_in(figures[part])) for figures in (ran.figures, expected))
    assert list(found) == list(stored)
    wrong = []
    for name, value in stored.items():
        tolerances = UNCODED if part in ("invert", "plates") or name.startswith("uncoded") else CODED
        relative, absolute = tolerances.get(name.split("/")[-1], (0, 0))
        if found[name] != pytest.approx(value, rel=relative or None, abs=absolute):
            wrong.append(f"{name}: {found[name]}, stored {value}")
    assert not wrong, "\n".join(wrong)


def test_every_part_is_compared(ran: Run, expected: Any) -> None:
    assert {"weights", *ran.figures} == set(expected)


# What holds whatever the weights.


def test_a_sweep_says_of_the_default_qp_what_encode_decode_and_evaluate_say(ran: Run) -> None:
    row, said = ran.figures["sweep"][f"bottleneck alley {DEFAULT_QP}"], ran.figures["evaluate"]
    assert row["bytes"] == pytest.approx(said["bytes"], rel=0.01)
    assert row["bpp"] == pytest.approx(said["bpp"], rel=0.01)
    assert row["ap50"] == pytest.approx(said["ap50"], abs=1.5)
    assert (said["bytes"], said["bpp"]) == tuple(ran.figures["encode"][name] for name in ("bytes", "bpp"))
    assert said["bytes"] == sum(path.stat().st_size for path in ran.streams)


def test_uncoded_pictures_are_attacked_alike_by_sweep_and_invert(ran: Run) -> None:
    alone, behind = (ran.figures["sweep"][name] for name in ("uncoded", "uncoded alley"))
    inverted = ran.figures["invert"]
    for name in ("psnr", "edge_psnr"):
        assert inverted[name] == pytest.approx(behind[name], abs=1e-3)
        assert inverted[f"latent_{name}"] == pytest.approx(alone[name], abs=1e-3)


def test_more_bits_are_spent_at_lower_qps_and_more_is_found(ran: Run) -> None:
    for method in ("latent", "bottleneck alley", "input-jpeg"):
        points = [point for name, point in ran.figures["sweep"].items() if name.startswith(f"{method} ")]
        sizes = [point["bytes"] for point in points]
        assert sizes == sorted(set(sizes), reverse=method != "input-jpeg")
        finest, coarsest = (choose(points, key=lambda point: float(point["bytes"])) for choose in (max, min))
        assert finest["ap50"] > coarsest["ap50"]


def test_a_file_decodes_to_what_the_api_decodes(ran: Run) -> None:
    codec = FeatureCodec.load("scenes", device="cpu", precision="auto")  # as `decode` does
    truth = read_annotations(ran.folder / "scenes/annotations.json")
    categories = truth.category_ids(codec.model.detector.names)
    stored = json.loads((ran.folder / "detections.json").read_text())
    assert len(stored) > 10 * len(ran.streams)
    for stream in ran.streams:
        image_id = truth.image_id(Path(stream.stem))
        single = codec.decode(stream.read_bytes()).to_coco(image_id, categories)
        of_file = [box for box in stored if box["image_id"] == image_id]
        # Batches may differ in a float's last bit; and where two scores are next to equal, in their order.
        sure = [sorted((box for box in boxes if box["score"] > 0.1), key=key) for boxes in (single, of_file)]
        assert len(sure[0]) > 1
        assert [box["category_id"] for box in sure[0]] == [box["category_id"] for box in sure[1]]
        for one, other in zip(*sure, strict=True):
            assert one["bbox"] == pytest.approx(other["bbox"], abs=0.1)
            assert one["score"] == pytest.approx(other["score"], abs=1e-3)


def key(box: dict[str, Any]) -> tuple[int, float, float]:
    return box["category_id"], round(box["bbox"][0]), round(box["bbox"][1])


def test_the_api_codes_as_the_command_does(ran: Run, codec: FeatureCodec) -> None:
    """By default: the detector's own bottleneck, QP 38, the minimum rectangle."""
    for image, stream in list(zip(ran.images, ran.streams, strict=True))[:3]:
        alone, of_file = codec.encode(read_image(image)), read_file(stream)
        assert unpack(alone)[0] == unpack(of_file)[0]
        assert len(alone) == pytest.approx(len(of_file), rel=0.01)
        # Convolutions over a batch may round a feature the other way.
        frames = [codec.decode_frame(data)[1].astype(int) for data in (alone, of_file)]
        assert np.abs(frames[0] - frames[1]).mean() < 0.5


def test_an_interrupted_encode_goes_on(ran: Run, codec: FeatureCodec, tmp_path: Path) -> None:
    sources = expand_sources([str(ran.folder / "scenes/images")], IMAGE_SUFFIXES, "images")
    with closing(encode_files(codec, sources, tmp_path, DEFAULT_QP, workers=1, batch=1)) as outcomes:
        next(outcomes)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert 1 <= len(before) < len(sources)
    resumed = featcodec("encode", ran.folder / "scenes/images", "-o", tmp_path, *MODEL)
    assert (resumed["skipped"], resumed["encoded"]) == (len(before), len(sources) - len(before))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert resumed["bytes"] == pytest.approx(ran.figures["encode"]["bytes"], rel=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in ran.streams]


def test_other_weights_are_refused(ran: Run, tmp_path: Path) -> None:
    """A stream of the bottleneck means nothing to the detector alone."""
    from featcodec.errors import WeightsError

    latent = FeatureCodec.load("scenes", bottleneck="none", device="cpu")
    with pytest.raises(WeightsError, match=latent.fingerprint.hex()):
        latent.decode(ran.streams[0].read_bytes())


def test_bd_takes_its_points_from_the_sweep_and_the_report_says_the_same(ran: Run) -> None:
    points = ran.folder / "points.csv"
    rate = featcodec("bd", points, points, *CURVES)["bd_rate"]
    reported = featcodec("report", points, "-o", ran.folder / "report.html", "--overwrite")["bd"]
    (line,) = (line for line in reported if "alley" in line[0] and "latent" in line[0])
    sign = -1 if "\N{MINUS SIGN}" in line[1] else 1
    assert sign * float(re.sub(r"[^\d.]", "", line[1])) == pytest.approx(rate, abs=0.06)


def test_the_report_is_one_page_with_pictures_and_every_point(ran: Run) -> None:
    page = (ran.folder / "report.html").read_text()
    assert not re.search(r"<(?:img|script|link)[^>]+(?:src|href)=\"(?!data:)", page)
    assert page.count("<svg") >= 2
    for row in PointFile(ran.folder / "points.csv").rows():
        assert f"{int(row['bytes']):,}" in page
    for name in ("report.md", "report-rate-accuracy.svg", "report-privacy-accuracy.svg", "report-reconstructions.jpg"):
        assert (ran.folder / name).stat().st_size > 1000


# What the weights that ship are for. On so few scenes a point of AP50 is one box; README's figures are on more.


def test_coding_costs_less_than_three_points_of_ap50(ran: Run) -> None:
    assert ran.figures["evaluate"]["ap50"] > ran.figures["sweep"]["uncoded"]["ap50"] - 3


def test_the_bottleneck_is_at_least_30_percent_smaller_than_latent_features_as_accurate(ran: Run) -> None:
    ours = ran.figures["evaluate"]
    latent = [point for name, point in ran.figures["sweep"].items() if name.startswith("latent ")]
    assert ours["bytes"] < 0.7 * min(point["bytes"] for point in latent if point["ap50"] >= ours["ap50"] - 0.5)


def test_an_attacker_sees_less_through_the_bottleneck(ran: Run) -> None:
    inverted, characters = ran.figures["invert"], ran.figures["plates"]["characters"]
    assert inverted["psnr"] < inverted["latent_psnr"]
    # Of few plates, both may read the same number of characters, hardly more than by guessing.
    assert characters["reconstruction"] <= characters["latent"] < characters["original"]
