"""featcodec models: the detectors known by name, and the other networks that ship."""

from __future__ import annotations

import rich_click as click

from featcodec.cli.console import print_json, print_table
from featcodec.cli.options import json_option


@click.command("models")
@click.argument("detector", required=False)
@click.option(
    "--splits",
    is_flag=True,
    help="List the layers behind which DETECTOR can be cut, and what crosses there. DETECTOR is a name, a file, or an "
    "architecture such as yolo11n, whose weights are not needed.",
)
@click.option(
    "--image-size",
    type=click.IntRange(32, 4096),
    default=512,
    show_default=True,
    help="Side of the square image that sizes and operations are for, in pixels; a multiple of 32 (P6 models: 64).",
)
@json_option
def command(detector: str | None, splits: bool, image_size: int, as_json: bool) -> int:
    """List the detectors known by name, whether this machine has their weights, and the other networks that ship.

    With DETECTOR and --splits, list the places where this detector can be cut.
    """
    if splits or detector is not None:
        if not splits or detector is None:
            raise click.UsageError("give a DETECTOR and --splits together, or neither")
        return _list_splits(detector, image_size, as_json=as_json)
    from featcodec.networks.catalogue import SHIPPED_BOTTLENECKS, SHIPPED_LAYOUTS, SHIPPED_RESTORATIONS, list_shipped
    from featcodec.networks.weights import list_models
    from featcodec.system.paths import weights_folder

    models = list_models()
    others = {
        "bottlenecks": ("detector", list_shipped(SHIPPED_BOTTLENECKS, "detector")),
        "layouts": ("tensor", list_shipped(SHIPPED_LAYOUTS, "tensor")),
        "restorations": ("codec", list_shipped(SHIPPED_RESTORATIONS, "codec")),
    }
    if as_json:
        print_json({"detectors": models, **{kind: listed for kind, (_, listed) in others.items()}})
        return 0
    columns = ("name", "weights", "licence", "description", "source")
    print_table("", columns, [[str(model[column]) for column in columns] for model in models])
    for kind, (made_for, listed) in others.items():
        shown = ("name", made_for, "licence", "description")
        print_table(kind.capitalize(), shown, [[each[column] for column in shown] for each in listed])
    click.echo(
        f"weights are searched in {weights_folder()}; --detector also takes the path of a .pt file, or of a "
        ".safetensors file from `featcodec train detector`"
    )
    return 0


def _list_splits(name: str, image_size: int, *, as_json: bool) -> int:
    from featcodec.detectors import detector_outline
    from featcodec.images.letterbox import Letterbox

    detector = detector_outline(name)
    Letterbox.fit(1, 1, image_size, stride=detector.stride)  # refuses a size that the detector does not take
    splits = detector.splits(image_size, image_size)
    if as_json:
        print_json(
            {
                "detector": name,
                "image_size": image_size,
                "splits": [
                    {
                        "layer": each.layer,
                        "kind": each.kind,
                        "tensors": [list(shape) for shape in each.shapes],
                        "samples": each.samples,
                        "raw_bits": each.raw_bits,
                        "front_end_flops": each.flops,
                        "front_end_parameters": each.parameters,
                    }
                    for each in splits
                ],
            }
        )
        return 0
    columns = (
        "split",
        "layer",
        "tensors (channels x height x width)",
        "samples",
        "raw bits",
        "GFLOP",
        "weights",
    )
    rows = [
        [
            str(each.layer),
            each.kind,
            ", ".join("x".join(map(str, shape)) for shape in each.shapes),
            f"{each.samples:,}",
            f"{each.raw_bits:,}",
            f"{each.flops / 1e9:.2f}",
            f"{each.parameters:,}",
        ]
        for each in splits
    ]
    print_table(f"{name}, {image_size}x{image_size} pixels", columns, rows)
    click.echo(
        "raw bits: 8 for each sample that crosses, before coding; GFLOP and weights: of the front-end at the "
        "edge (a multiplication and an addition are two operations)"
    )
    return 0
