"""A drive: the same pictures for a seed, things that move smoothly, a loop that closes, and what a detector finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec import FeatureCodec
from featcodec.scenes.drive import HEIGHT, LEAST_LOOP, WIDTH, Drive
from featcodec.scenes.street import FAR


@pytest.fixture(scope="module")
def drive() -> Drive:
    return Drive.plan(1)


def apart(first: np.ndarray, second: np.ndarray) -> float:
    """The mean difference of two pictures, in gray levels."""
    return float(np.abs(first.astype(np.float32) - second).mean())


def test_a_picture_depends_on_the_seed_and_the_moment_alone(drive: Drive) -> None:
    picture = drive.picture(3.0)
    assert (picture.shape, picture.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(picture, Drive.plan(1).picture(3.0))
    assert apart(picture, Drive.plan(2).picture(3.0)) > 10


def test_pictures_change_little_by_little(drive: Drive) -> None:
    first, next_, later = (drive.picture(seconds) for seconds in (5.0, 5.02, 9.0))
    assert 0 < apart(first, next_) < apart(first, later) / 2


def test_after_one_loop_everything_comes_again(drive: Drive) -> None:
    assert apart(drive.picture(0.5), drive.picture(drive.loop + 0.5)) < 0.1
    assert (
        apart(drive.picture(drive.loop - 0.01), drive.picture(0.01)) < apart(drive.picture(1.0), drive.picture(3.0)) / 2
    )


def test_short_drives_are_a_part_of_a_loop() -> None:
    assert Drive.plan(1, 2.0).loop == LEAST_LOOP
    assert Drive.plan(1, 33.0).loop == 33.0


@given(st.floats(0, 100), st.floats(0.001, 0.2))
def test_things_come_nearer_at_their_speed(moment: float, later: float) -> None:
    for thing in Drive.plan(4).things:
        before, after = thing.distance(moment), thing.distance(moment + later)
        if thing.speed and before - thing.speed * later > -14 + 1e-6:
            assert before - after == pytest.approx(thing.speed * later, abs=1e-6)
        elif not thing.speed:
            assert 10 < after < FAR
            assert abs(before - after) < 6 * 2 * np.pi / thing.loop * later + 1e-6


@given(st.integers(0, 2**32), st.floats(0, 40))
def test_vehicles_do_not_drive_through_each_other(seed: int, moment: float) -> None:
    """Of those in one lane, none meets another: theirs is one speed, or the camera's."""
    things = [thing for thing in Drive.plan(seed).things if thing.half_z > 1]
    places = [(thing, thing.distance(moment)) for thing in things]
    for (first, z), (second, other) in itertools.combinations(places, 2):
        if abs(first.x - second.x) < first.half_x + second.half_x and min(z, other) > 0:
            assert abs(z - other) > first.half_z + second.half_z


@pytest.mark.slow
def test_a_detector_finds_what_is_drawn(drive: Drive) -> None:
    codec = FeatureCodec.load("scenes11")
    for seconds in (0.0, 6.0, 12.0):
        found = codec.decode(codec.encode(drive.picture(seconds), 34)).filter(0.4)
        assert "car" in {found.names[number] for number in found.class_ids}
        # The car that drives ahead of the camera is always in sight.
        ahead = next(thing for thing in drive.things if not thing.speed)
        z = ahead.distance(seconds) - ahead.half_z
        middle = drive.camera.project(ahead.x, ahead.height / 2, z)
        inside = (found.xyxy[:, :2] < middle).all(1) & (found.xyxy[:, 2:] > middle).all(1)
        assert "car" in {found.names[number] for number in found.class_ids[inside]}
