"""The files in examples/ that no test runs: what they name exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from featcodec.cli.encode import command as encode

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return yaml.safe_load((EXAMPLES / "kuberay.yaml").read_text())  # type: ignore[no-any-return]


def test_kuberay_runs_a_command_that_there_is(job: dict[str, Any]) -> None:
    program, name, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert (program, name) == ("featcodec", "encode")
    options = encode.make_context(name, arguments).params
    assert options["cluster"] == "auto"


def test_kuberay_gives_all_pods_the_folder_of_the_command(job: dict[str, Any]) -> None:
    """Encoding on a cluster needs the same paths everywhere."""
    paths = [Path(word) for word in shlex.split(job["spec"]["entrypoint"]) if word.startswith("/")]
    assert paths
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        mounted = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
        claims = {volume["name"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume}
        for path in paths:
            assert any(path.is_relative_to(folder) for name, folder in mounted.items() if name in claims)


def test_kuberay_has_a_ray_that_the_extra_takes(job: dict[str, Any]) -> None:
    found = re.search(r'"ray\[.*\]>=([\d.]+),<([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert found is not None
    texts = (found[1], job["spec"]["rayClusterSpec"]["rayVersion"], found[2])
    low, version, high = (tuple(map(int, text.split(".")[:2])) for text in texts)
    assert low <= version < high
