"""Placement of objects and clutter on the zones of a street. Each is drawn on its own layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from featcodec.scenes.bicycles import draw_bicycle
from featcodec.scenes.buses import bus_shape, draw_bus
from featcodec.scenes.canvas import Camera, Layer
from featcodec.scenes.cars import CarShape, car_shape, draw_car
from featcodec.scenes.clutter import THINGS, draw_thing
from featcodec.scenes.colours import pick
from featcodec.scenes.light import Light
from featcodec.scenes.people import draw_person, draw_person_look
from featcodec.scenes.signs import draw_pole, draw_sign, draw_traffic_light
from featcodec.scenes.solids import Frame
from featcodec.scenes.street import Street, Zone
from featcodec.scenes.trucks import TruckShape, draw_truck, truck_shape

LARGEST = 300.0
"""Approximate size of the largest object in pixels."""

_TRIES = 14
_MARGIN = 16.0
_SHARES: Mapping[str, float] = {
    "car": 0.33, "truck": 0.09, "bus": 0.07, "pedestrian": 0.25, "bicycle": 0.11, "traffic sign": 0.10,
    "traffic light": 0.08,
}  # fmt: skip
_LEGIBLE_SHARE = 0.86
"""Share of scenes with a vehicle whose plate faces the camera and is near enough to be read."""

_POSTER_SHARE = 0.45
"""Share of scenes with a near hoarding."""

_LEGIBLE_SCALE = (56.0, 98.0)
"""Least and largest pixels per metre of a legible vehicle."""


@dataclass(frozen=True)
class Footprint:
    """The axis-parallel rectangle on the ground below a thing: its middle, its half sides and its height, in metres."""

    x: float
    z: float
    half_x: float
    half_z: float
    height: float

    def meets(self, other: Footprint, gap: float) -> bool:
        """Whether the gap between the two is smaller than `gap` metres."""
        return (
            abs(self.x - other.x) < self.half_x + other.half_x + gap
            and abs(self.z - other.z) < self.half_z + other.half_z + gap
        )


@dataclass(frozen=True)
class Placed:
    """A thing in the scene: its class (None for clutter), its layer, and its distance for the order of painting."""

    class_name: str | None
    layer: Layer
    depth: float


@dataclass
class Plan:
    """The contents of a scene while they are placed."""

    rng: np.random.Generator
    street: Street
    light: Light
    placed: list[Placed] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    sight: tuple[float, float, float] | None = None
    """Columns (from, to) and distance of a plate that must stay visible."""

    @property
    def camera(self) -> Camera:
        """The camera of the street."""
        return self.street.camera

    def claim(self, footprint: Footprint, gap: float = 0.25) -> bool:
        """Take the ground if it is free. Returns whether it was free."""
        if any(footprint.meets(other, gap) for other in self.footprints) or self._hides(footprint):
            return False
        self.footprints.append(footprint)
        return True

    def _hides(self, footprint: Footprint) -> bool:
        if self.sight is None or footprint.z > self.sight[2]:
            return False
        near = max(1.0, footprint.z - footprint.half_z)
        middle = self.camera.centre + footprint.x * self.camera.focal / near
        half = (footprint.half_x + 0.3) * self.camera.focal / near
        return middle + half > self.sight[0] and middle - half < self.sight[1]

    def add(self, class_name: str | None, layer: Layer, depth: float) -> None:
        """Add a drawn layer."""
        self.placed.append(Placed(class_name, layer, depth))


def place_all(rng: np.random.Generator, street: Street, light: Light) -> Plan:
    """Place everything in a scene."""
    plan = Plan(rng, street, light)
    if rng.random() < _LEGIBLE_SHARE:
        _retry(_place_legible, plan)
    names, shares = tuple(_SHARES), np.array(tuple(_SHARES.values()))
    for index in rng.choice(len(names), size=int(rng.integers(5, 16)), p=shares / shares.sum()).tolist():
        _retry(_PLACE[names[index]], plan)
    if rng.random() < _POSTER_SHARE:
        _retry(partial(_place_thing, kind="hoarding", least=42.0), plan)
    kinds, weights = tuple(THINGS), np.array([thing.weight for thing in THINGS.values()])
    for index in rng.choice(len(kinds), size=int(rng.integers(4, 12)), p=weights / weights.sum()).tolist():
        _retry(partial(_place_thing, kind=kinds[index]), plan)
    return plan


def _retry(place: Callable[[Plan], bool], plan: Plan) -> None:
    for _ in range(_TRIES):
        if place(plan):
            return


def _zone(plan: Plan, *uses: str) -> Zone | None:
    zones = [zone for zone in plan.street.zones if zone.use in uses]
    return pick(plan.rng, zones) if zones else None


def _spot(plan: Plan, zone: Zone, scale: tuple[float, float], beyond: float = 1.0) -> tuple[float, float] | None:
    """Choose a visible ground point of a zone, or return None.

    Args:
        plan: the scene so far.
        zone: the zone of the point.
        scale: least and largest pixels per metre.
        beyond: smallest distance, as a multiple of the distance to the nearest visible ground.
    """
    camera, rng = plan.camera, plan.rng
    least = max(zone.near, camera.focal / scale[1], plan.street.near() * beyond)
    most = min(zone.far, camera.focal / scale[0])
    if least >= most:
        return None
    # The logarithm of the size is evenly distributed, so there are as many large things as small things.
    z = least * (most / least) ** rng.uniform(0, 1)
    left = max(zone.left, (_MARGIN - camera.centre) * z / camera.focal)
    right = min(zone.right, (512 - _MARGIN - camera.centre) * z / camera.focal)
    if left >= right:
        return None
    return rng.uniform(left, right), z


def _place_legible(plan: Plan) -> bool:
    """Place a car, or sometimes a truck or a bus, seen from the front or behind, with a readable plate."""
    rng, camera = plan.rng, plan.camera
    if plan.street.kind == "crossing":  # its lanes run across, so this vehicle turns off
        zone = Zone(-9, 9, 0, 40, "drive", (0.0, math.pi))
    else:
        zone = pick(rng, [zone for zone in plan.street.zones if {0.0, math.pi} & set(zone.yaws)])
    nearest = max(plan.street.near(), camera.focal / _LEGIBLE_SCALE[1])
    front = rng.uniform(nearest, max(nearest * 1.02, camera.focal / _LEGIBLE_SCALE[0]))
    yaw = pick(rng, [yaw for yaw in zone.yaws if yaw in (0.0, math.pi)])
    left = max(zone.left + 0.9, (50 - camera.centre) * front / camera.focal)
    right = min(zone.right - 0.9, (462 - camera.centre) * front / camera.focal)
    if left > right:
        return False
    kind = pick(rng, ("car",) * 7 + ("truck", "bus"))
    x = rng.uniform(left, right)
    if not _place_vehicle(plan, kind, (x, front), yaw + rng.uniform(-0.05, 0.05), behind=True):
        return False
    columns = [camera.project(x + half, 0, front)[0] for half in (-0.5, 0.5)]
    plan.sight = columns[0], columns[1], front
    return True


def _place_vehicle(plan: Plan, kind: str, place: tuple[float, float], yaw: float, *, behind: bool = False) -> bool:
    """Place a vehicle around a ground point, or with its near end there (`behind`). Returns False without room."""
    rng, camera = plan.rng, plan.camera
    shape = car_shape(rng) if kind == "car" else truck_shape(rng) if kind == "truck" else bus_shape(rng)
    sine, cosine = abs(math.sin(yaw)), abs(math.cos(yaw))
    half_x = (sine * shape.length + cosine * shape.width) / 2
    half_z = (cosine * shape.length + sine * shape.width) / 2
    x, z = place[0], place[1] + (half_z if behind else 0.0)
    front = z - half_z
    if front < plan.street.near() * 0.9 or max(2 * half_x, shape.height) * camera.scale(front) > LARGEST:
        return False
    if not plan.claim(Footprint(x, z, half_x, half_z, shape.height), 0.35):
        return False
    frame = Frame(x, z, yaw)
    if isinstance(shape, CarShape):
        layer = draw_car(rng, camera, plan.light, frame, shape)
    elif isinstance(shape, TruckShape):
        layer = draw_truck(rng, camera, plan.light, frame, shape)
    else:
        layer = draw_bus(rng, camera, plan.light, frame, shape)
    plan.add(kind, layer, z - 0.7 * half_z)
    return True


def _vehicle(plan: Plan, *, kind: str) -> bool:
    rng = plan.rng
    zone = _zone(plan, "drive", "drive", "park")
    if zone is None:
        return False
    spot = _spot(plan, zone, (7.5, 90) if kind == "car" else (6.5, 70))
    if spot is None:
        return False
    wobble = 0.16 if plan.street.kind == "square" else 0.05
    yaw = pick(rng, zone.yaws) + rng.uniform(-wobble, wobble)
    if rng.random() < 0.1:
        yaw += rng.uniform(-0.7, 0.7)  # the vehicle turns off
    return _place_vehicle(plan, kind, spot, yaw)


def _pedestrian(plan: Plan) -> bool:
    rng = plan.rng
    zone = _zone(plan, "walk", "walk", "walk", "drive")
    near = 0.72 if rng.random() < 0.35 else 1.0
    spot = zone and _spot(plan, zone, (50, 150) if rng.random() < 0.3 else (8.5, 150), near)
    if not spot or not plan.claim(Footprint(*spot, 0.28, 0.2, 1.75), 0.05):
        return False
    plan.add("pedestrian", draw_person(rng, plan.camera, plan.light, spot, draw_person_look(rng)), spot[1])
    return True


def _bicycle(plan: Plan) -> bool:
    rng = plan.rng
    ridden = bool(rng.random() < 0.65)
    along = rng.random() < 0.3
    zone = _zone(plan, "drive") if ridden and rng.random() < 0.7 else _zone(plan, "walk")
    spot = zone and _spot(plan, zone, (11, 125))
    if not spot or not plan.claim(Footprint(*spot, 0.3 if along else 0.8, 0.12, 1.5), 0.2):
        return False
    layer = draw_bicycle(rng, plan.camera, plan.light, spot, ridden=ridden, along=along)
    plan.add("bicycle", layer, spot[1])
    return True


def _sign(plan: Plan) -> bool:
    rng, camera = plan.rng, plan.camera
    zone = _zone(plan, "walk")
    spot = zone and _spot(plan, zone, (13, 95))
    if not spot or not plan.claim(Footprint(*spot, 0.12, 0.12, 2.2), 0.1):
        return False
    x, z = spot
    height, radius = rng.uniform(1.9, 2.6), rng.uniform(0.36, 0.52)
    plan.add(None, draw_pole(camera, plan.light, spot, height), z)
    plan.add("traffic sign", draw_sign(rng, camera, plan.light, (x, z - 0.05), height, radius), z - 0.05)
    if rng.random() < 0.2:
        below = height - radius * 2.2
        plan.add("traffic sign", draw_sign(rng, camera, plan.light, (x, z - 0.05), below, radius * 0.95), z - 0.05)
    return True


def _traffic_light(plan: Plan) -> bool:
    rng, camera = plan.rng, plan.camera
    zone = _zone(plan, "walk")
    spot = zone and _spot(plan, zone, (13, 85))
    if not spot or not plan.claim(Footprint(*spot, 0.12, 0.12, 2.6), 0.1):
        return False
    x, z = spot
    tall = rng.uniform(1.0, 1.35)
    height = rng.uniform(2.3, 3.1)
    plan.add(None, draw_pole(camera, plan.light, spot, height), z)
    plan.add("traffic light", draw_traffic_light(rng, camera, plan.light, (x, z - 0.05), height, tall), z - 0.05)
    return True


def _place_thing(plan: Plan, *, kind: str, least: float = 7.0) -> bool:
    """Place a piece of clutter at a scale of at least `least` pixels per metre."""
    thing = THINGS[kind]
    zone = _zone(plan, "drive") if kind == "cone" else _zone(plan, "walk")
    spot = zone and _spot(plan, zone, (least, min(100.0 if kind == "hoarding" else 70.0, 360 / thing.height)), 0.9)
    if not spot or not plan.claim(Footprint(*spot, thing.base, min(thing.base, 0.4), thing.height), 0.1):
        return False
    plan.add(None, draw_thing(plan.rng, plan.camera, plan.light, spot, kind), spot[1])
    return True


_PLACE: Mapping[str, Callable[[Plan], bool]] = {
    "car": partial(_vehicle, kind="car"),
    "truck": partial(_vehicle, kind="truck"),
    "bus": partial(_vehicle, kind="bus"),
    "pedestrian": _pedestrian,
    "bicycle": _bicycle,
    "traffic sign": _sign,
    "traffic light": _traffic_light,
}
