"""featcodec models: detectors known by name."""

from __future__ import annotations

import rich_click as click

from featcodec.cli.console import print_json, print_table
from featcodec.cli.options import json_option


@click.command("models")
@json_option
def command(as_json: bool) -> int:
    """List the detectors known by name, whether their weights are here, and under which licence."""
    from featcodec.weights import list_models

    models = list_models()
    if as_json:
        print_json(models)
        return 0
    columns = ("name", "weights", "licence", "description", "source")
    print_table("", columns, [[str(model[column]) for column in columns] for model in models])
    click.echo(f"weights are looked for in {models[0]['folder']}; --detector also takes the path of a .pt file")
    return 0
