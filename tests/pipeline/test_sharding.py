"""Encoding into shards: the same streams as in single files, the same bytes in any order, and going on."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pictures import make_bad_pictures, save_texture

from featcodec import FeatureCodec
from featcodec.errors import OutputError
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.pipeline import Encoded, decode_files, encode_files
from featcodec.pipeline import sharding as module
from featcodec.pipeline.sharding import encode_into_shards, plan_shards
from featcodec.system.files import ExistsError
from featcodec.system.paths import Source, expand_sources

QP = 38


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, image_size=64)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(7):
        save_texture(
            tmp_path / "in" / f"{number % 2}" / f"img.{number}.png", 60, (40, 60)[number % 3 == 0], seed=number
        )
    save_texture(tmp_path / "in" / "0-first.png", 60, 40)
    return tmp_path / "in"


def sources_in(folder: Path) -> list[Source]:
    return expand_sources([str(folder)], IMAGE_SUFFIXES, "images")


def run(
    codec: FeatureCodec, pictures: Path, folder: Path, count: int = 3, qp: int = QP, *, overwrite: bool = False
) -> list[Encoded]:
    def encode(some: Sequence[Source]) -> Generator[Encoded, None, None]:
        yield from encode_files(codec, some, None, qp, workers=2, batch=2)

    shards = plan_shards(sources_in(pictures), folder, count)
    return list(encode_into_shards(codec, shards, qp, encode, overwrite=overwrite))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def streams_in(folder: Path) -> list[Source]:
    return expand_sources([str(folder)], frozenset({".266"}), "bitstreams", in_shards=True)


@pytest.mark.parametrize(
    ("images", "count", "sizes"), [(7, 3, [2, 2, 3]), (2, 5, [1, 1]), (4, 4, [1] * 4), (5, 1, [5])]
)
def test_parts_are_of_about_equal_length(images: int, count: int, sizes: list[int]) -> None:
    sources = [Source(Path(f"{number}.png"), Path(f"{number}.png")) for number in range(images)]
    shards = plan_shards(list(reversed(sources)), Path("out"), count)
    assert [len(shard.sources) for shard in shards] == sizes
    assert [source for shard in shards for source in shard.sources] == sources
    assert shards[0].path == Path("out/000000.tar")


def test_streams_of_shards_are_those_of_files(codec: FeatureCodec, pictures: Path, tmp_path: Path) -> None:
    make_bad_pictures(pictures / "0")
    outcomes = run(codec, pictures, tmp_path / "out")
    single = list(encode_files(codec, sources_in(pictures), tmp_path / "files", QP))
    assert sorted(outcome.error or "" for outcome in outcomes) == sorted(outcome.error or "" for outcome in single)
    assert sum(outcome.error is not None for outcome in outcomes) == 4
    assert sum(outcome.bytes for outcome in outcomes) == sum(outcome.bytes for outcome in single)
    assert sorted(contents(tmp_path / "out")) == [f"00000{n}.{ending}" for n in range(3) for ending in ("idx", "tar")]
    in_shards, in_files = streams_in(tmp_path / "out"), streams_in(tmp_path / "files")
    assert [source.relative for source in in_shards] == [source.relative for source in in_files]
    found = [
        [
            (outcome.source.name, outcome.bytes, outcome.detections.xyxy.tolist())
            for outcome in decode_files(codec, sources)
            if outcome.detections
        ]
        for sources in (in_shards, in_files)
    ]
    assert found[0] == found[1]
    by_source = {outcome.source: outcome.output for outcome in outcomes if outcome.error is None}
    assert {str(path) for path in by_source.values()} == {str(source.path) for source in in_shards}


def test_bytes_do_not_depend_on_the_order_of_outcomes(
    codec: FeatureCodec, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(codec, pictures, tmp_path / "one")
    monkeypatch.setattr(module, "_IN_MEMORY", 10)
    shuffled = list(encode_files(codec, sources_in(pictures), None, QP, workers=1, batch=1))
    random.Random(4).shuffle(shuffled)

    def encode(some: Sequence[Source]) -> Generator[Encoded, None, None]:
        yield from shuffled

    list(encode_into_shards(codec, plan_shards(sources_in(pictures), tmp_path / "other", 3), QP, encode))
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_run_that_was_stopped_goes_on(codec: FeatureCodec, pictures: Path, tmp_path: Path) -> None:
    run(codec, pictures, tmp_path / "whole")
    folder, asked = tmp_path / "out", list[int]()

    def encode(some: Sequence[Source]) -> Generator[Encoded, None, None]:
        asked.append(len(some))
        yield from encode_files(codec, some, None, QP, workers=1, batch=1)

    outcomes = encode_into_shards(codec, plan_shards(sources_in(pictures), folder, 3), QP, encode)
    next(outcomes)  # the first shard is written
    outcomes.close()
    done = contents(folder)
    assert len(done) == 2
    (folder / "000000.idx").unlink(missing_ok=True)
    again = list(encode_into_shards(codec, plan_shards(sources_in(pictures), folder, 3), QP, encode))
    assert contents(folder) == contents(tmp_path / "whole")
    assert contents(folder).items() >= done.items()
    assert sum(outcome.skipped for outcome in again) in {2, 3}
    assert asked[1] == 8 - sum(outcome.skipped for outcome in again)
    last = list(encode_into_shards(codec, plan_shards(sources_in(pictures), folder, 3), QP, encode))
    assert all(outcome.skipped for outcome in last)
    assert [outcome.pixels for outcome in last] == [2400 if outcome.pixels == 2400 else 3600 for outcome in last]


@pytest.mark.parametrize("change", ["qp", "weights", "count", "image gone", "changed image", "first image", "damage"])
def test_a_shard_of_another_run_is_refused(
    codec: FeatureCodec, pictures: Path, tmp_path: Path, change: str, tiny_yolov5u: Path
) -> None:
    folder = tmp_path / "out"
    run(codec, pictures, folder)
    before, options = contents(folder), dict[str, Any]()
    if change == "qp":
        options = {"qp": QP + 1}
    elif change == "weights":
        codec = FeatureCodec.load(tiny_yolov5u, image_size=64)
    elif change == "count":
        options = {"count": 2}
    elif change == "image gone":
        (pictures / "1" / "img.3.png").unlink()
    elif change == "changed image":
        save_texture(pictures / "1" / "img.3.png", 60, 40, seed=99)
    elif change == "first image":
        save_texture(pictures / "0-first.png", 60, 40, seed=99)
    else:
        data = bytearray(before["000001.tar"])
        data[580] ^= 1
        (folder / "000001.tar").write_bytes(data)
        before = contents(folder)
    with pytest.raises(ExistsError, match=r"use `overwrite`|another `output`"):
        run(codec, pictures, folder, **options)
    assert contents(folder) == before
    if change not in {"count", "weights"}:
        outcomes = run(codec, pictures, folder, overwrite=True, **options)
        assert not any(outcome.error or outcome.skipped for outcome in outcomes)


def test_a_new_image_is_an_error_if_the_others_stay_where_they_are(
    codec: FeatureCodec, pictures: Path, tmp_path: Path
) -> None:
    run(codec, pictures, tmp_path / "out")
    new = save_texture(pictures / "0" / "a.png", 60, 40)
    failed = [outcome for outcome in run(codec, pictures, tmp_path / "out") if not outcome.skipped]
    assert [outcome.source.path for outcome in failed] == [new]
    assert "or it is new; remove the shard, or use `overwrite`" in str(failed[0].error)


def test_an_image_that_failed_is_said_again(codec: FeatureCodec, pictures: Path, tmp_path: Path) -> None:
    make_bad_pictures(pictures)
    first = run(codec, pictures, tmp_path / "out", 2)
    again = run(codec, pictures, tmp_path / "out", 2)
    failed = [{outcome.source for outcome in outcomes if outcome.error} for outcomes in (first, again)]
    assert failed[0] == failed[1]
    assert len(failed[0]) == 4
    assert all("it could not be encoded when this was made" in str(outcome.error) for outcome in again if outcome.error)


def test_a_shard_without_streams_is_not_written(codec: FeatureCodec, tmp_path: Path) -> None:
    make_bad_pictures(tmp_path / "in")
    outcomes = run(codec, tmp_path / "in", tmp_path / "out", 1)
    assert all(outcome.error for outcome in outcomes)
    assert len(outcomes) == 4
    assert not (tmp_path / "out").exists()


def test_a_shard_that_cannot_be_written_ends_the_run(codec: FeatureCodec, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(OutputError, match=r"000000\.tar"):
        run(codec, pictures, tmp_path / "out")
