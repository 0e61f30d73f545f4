"""featcodec models: detectors known by name, bottlenecks and restorations that ship."""

from __future__ import annotations

import rich_click as click

from featcodec.cli.console import print_json, print_table
from featcodec.cli.options import json_option


@click.command("models")
@json_option
def command(as_json: bool) -> int:
    """List the detectors known by name, whether their weights are here, and bottlenecks and restorations that ship."""
    from featcodec.paths import weights_folder
    from featcodec.weights import list_bottlenecks, list_models, list_restorations

    models, bottlenecks, restorations = list_models(), list_bottlenecks(), list_restorations()
    if as_json:
        print_json({"detectors": models, "bottlenecks": bottlenecks, "restorations": restorations})
        return 0
    columns = ("name", "weights", "licence", "description", "source")
    print_table("", columns, [[str(model[column]) for column in columns] for model in models])
    of_bottlenecks = ("name", "detector", "licence", "description")
    print_table("Bottlenecks", of_bottlenecks, [[each[column] for column in of_bottlenecks] for each in bottlenecks])
    if restorations:
        shown = ("codec", "licence", "description")
        print_table("Restorations", shown, [[each[column] for column in shown] for each in restorations])
    click.echo(
        f"weights are looked for in {weights_folder()}; --detector also takes the path of a .pt file, or of a "
        ".safetensors file of `featcodec train detector`"
    )
    return 0
