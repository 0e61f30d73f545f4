"""featcodec models: the detectors known by name, and the other networks that ship."""

from __future__ import annotations

import rich_click as click

from featcodec.cli.console import print_json, print_table
from featcodec.cli.options import json_option


@click.command("models")
@json_option
def command(as_json: bool) -> int:
    """List the detectors known by name, whether this machine has their weights, and the other networks that ship."""
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
