"""Every family of ultralytics: saved by ultralytics, cut behind every layer, the predictions are ultralytics' own.

Both sides compute in float64, so what differs is not rounding.
"""

from __future__ import annotations

import threading
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from make_checkpoints import rename_classes
from make_families import NAMES, answers, make_family, pictures, save_family
from torch import Tensor, nn

from featcodec.detectors import FamilyConfig, SplitDetector, configuration_of, load_detector, read_detector
from featcodec.detectors.pickles import MAX_PICKLE_BYTES
from featcodec.detectors.stored import save_detector
from featcodec.errors import WeightsError

QUICK = ("yolov8n", "yolov10n", "yolo26n-seg")
SMALLEST = (
    *("yolov8n", "yolov8n-seg", "yolov8n-pose", "yolov8n-p2", "yolov8n-p6", "yolov5n-p6", "yolov8n-ghost"),
    *("yolov9t", "yolov9s", "yolov9m", "yolov9c", "yolov9e", "yolov9c-seg", "yolov10n"),
    *("yolo11n", "yolo11n-seg", "yolo11n-pose", "yolo12n", "yolo12n-seg"),
    *("yolo26n", "yolo26n-seg", "yolo26n-pose", "yolo26n-p2", "yolo26n-p6"),
)
LARGER = (
    *("yolov8s", "yolov8m", "yolov8l", "yolov8x", "yolov8x-seg", "yolov8x-pose", "yolov9e-seg", "yolov5x-p6"),
    *("yolov10s", "yolov10m", "yolov10b", "yolov10l", "yolov10x", "yolo11s", "yolo11m", "yolo11l", "yolo11x"),
    *("yolo12s", "yolo12m", "yolo12l", "yolo12x", "yolo26s", "yolo26m", "yolo26l", "yolo26x", "yolo26x-seg"),
)


def slow_but(names: tuple[str, ...], quick: tuple[str, ...]) -> list[Any]:
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]


def load(path: Path) -> SplitDetector:
    detector = load_detector(path, device="cpu", fuse=False)
    return detector.double()


def own(model: Any, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """ultralytics' answers in float64."""
    with torch.inference_mode():
        found = model.double().eval()(images)[0]
    return found if isinstance(found, tuple) else (found, None)


def assert_equal(detector: SplitDetector, images: Tensor, expected: tuple[Tensor, Tensor | None], layer: int) -> None:
    part = detector.at(layer)
    with torch.inference_mode():
        found = part.predict(part.front(images))
    torch.testing.assert_close(found.values, expected[0], rtol=1e-5, atol=1e-5, msg=lambda text: f"{layer}: {text}")
    assert (found.prototypes is None) == (expected[1] is None)
    if found.prototypes is not None:
        torch.testing.assert_close(found.prototypes, expected[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", slow_but(SMALLEST, QUICK))
def test_cut_behind_any_layer_it_answers_as_ultralytics_does(tmp_path: Path, name: str) -> None:
    """On a picture that is not square."""
    model = make_family(name)
    detector = load(save_family(tmp_path / "a.pt", model))
    images = pictures(128, 64).double()
    expected = own(model, images)
    scores = expected[0][:, 4 : 4 + len(NAMES)]
    assert scores.std() > 0.05, "degenerate scores prove nothing"
    assert detector.names == tuple(NAMES)
    assert detector.stride == (64 if "p6" in name else 32)
    layers = [each.layer for each in detector.splits(128, 64)]
    assert layers == list(range(27 if "v9e" in name else 0, len(detector.layers) - 1))
    for layer in layers:
        assert_equal(detector, images, expected, layer)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGER)
def test_larger_sizes_answer_as_ultralytics_does(tmp_path: Path, name: str) -> None:
    model = make_family(name)
    path = save_family(tmp_path / "a.pt", model.half())
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("a/data.pkl").file_size * 2 < MAX_PICKLE_BYTES
    detector = load(path)
    images = pictures(64, 64).double()
    expected = own(model, images)
    last = len(detector.layers) - 2
    for layer in {detector.split, 10 if detector.split < 10 else last - 3, last}:
        assert_equal(detector, images, expected, layer)


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("yolo11n", ("half", "ema", "float", "bare")),
        pytest.param("yolo26n-pose", ("half", "ema", "float", "bare"), marks=pytest.mark.slow),
        pytest.param("yolov9t", ("half", "ema", "float", "bare"), marks=pytest.mark.slow),
    ],
)
def test_every_form_of_a_checkpoint_is_read(tmp_path: Path, name: str, forms: tuple[str, ...]) -> None:
    model = make_family(name).half()
    prints = set()
    for form in forms:
        path = tmp_path / f"{form}.pt"
        if form == "ema":
            save_family(path, make_family(name, seed=1), ema=model)
        elif form == "bare":
            torch.save(model, path)
        else:
            save_family(path, model if form == "half" else model.float())
        prints.add(load_detector(path, device="cpu").fingerprint)
        model = model.half()
    assert len(prints) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov10n", "yolo26n", "yolo26n-seg", "yolo26n-pose"])
def test_the_branch_without_nms_answers_as_ultralytics_does(tmp_path: Path, name: str) -> None:
    """All its boxes, before ultralytics takes the best."""
    model = make_family(name).double()
    detector = load(save_family(tmp_path / "a.pt", model))
    head: Any = detector.head
    assert detector.task.needs_nms
    images = pictures(128, 64).double()
    many = own(model, images)[0]
    model.end2end = head.end2end = True
    assert not detector.task.needs_nms
    with torch.inference_mode():
        found = detector.predict(detector.front(images))
        best, raw = model(images)
        expected = model.model[-1]._inference(raw["one2one"])
        centres, sizes = found.values[:, :2], found.values[:, 2:4]
        corners = torch.cat((centres - sizes / 2, centres + sizes / 2, found.values[:, 4:]), 1)
    assert not torch.allclose(found.values, many)
    torch.testing.assert_close(corners, expected, rtol=1e-5, atol=1e-5)
    assert (found.prototypes is None) == (not isinstance(best, tuple))
    if found.prototypes is not None:
        torch.testing.assert_close(found.prototypes, best[1], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n", "yolov10n", "yolo11n-seg", "yolo26n", "yolov9t"])
def test_one_class_batches_folding_and_bfloat16(tmp_path: Path, name: str) -> None:
    model = make_family(name, classes=1)
    path = save_family(tmp_path / "a.pt", model)
    images = pictures(64, 96, count=2)
    expected, _ = answers(model, images)
    folded = load_detector(path, device="cpu")
    assert folded.names == (NAMES[0],)
    rough = load_detector(path, device="cpu", precision="bfloat16")
    with torch.inference_mode():
        found = folded.back(folded.front(images))
        coarse = rough.back(rough.front(images))
        # Of one image, boxes below a score may be left out.
        alone = folded.back(folded.front(images[:1]))
        few = folded.back(folded.front(images[:1]), conf=0.6)
    assert (found[:, 4] - expected[:, 4]).abs().max() < 2e-3
    assert coarse.shape == expected.shape
    assert torch.isfinite(coarse).all()
    assert (coarse[:, 4] - expected[:, 4]).abs().mean() < 0.2
    wanted = alone[:, :, alone[0, 4] > 0.6]
    torch.testing.assert_close(few, wanted, rtol=1e-3, atol=1e-3)


# Checkpoints as people have them


def fingerprint(path: Path) -> bytes:
    return load_detector(path, device="cpu").fingerprint


@pytest.fixture(scope="module")
def yolo11n(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("family") / "a.pt"
    return save_family(path, make_family("yolo11n").half(), save_dir=Path("runs/detect/train"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"cultralytics\.nn\.modules\.(conv|block|head)\n", rb"cultralytics.nn.modules\n"),
        (rb"cpathlib(\._local)?\nPosixPath\n", rb"cpathlib._local\nPosixPath\n"),
        (rb"cpathlib(\._local)?\nPosixPath\n", rb"cpathlib\nWindowsPath\n"),
        (rb"BatchNorm2d\n", rb"SyncBatchNorm\n"),
    ],
    ids=["ultralytics 8.0", "python 3.13", "windows", "several devices"],
)
def test_names_of_other_versions_mean_the_same(tmp_path: Path, yolo11n: Path, old: bytes, new: bytes) -> None:
    assert fingerprint(rename_classes(yolo11n, tmp_path / "a.pt", old, new)) == fingerprint(yolo11n)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo11n", "yolov10n", "yolo26n", "yolo26n-seg", "yolo26n-pose"])
@pytest.mark.parametrize("place", ["model", "ema"])
def test_an_unfinished_run_with_its_loss_is_read(tmp_path: Path, name: str, place: str) -> None:
    from ultralytics.cfg import get_cfg

    plain = fingerprint(save_family(tmp_path / "a.pt", make_family(name)))
    model = make_family(name)
    model.args = get_cfg()
    model.criterion = model.init_criterion()
    optimizer = torch.optim.AdamW(nn.Linear(3, 3).parameters())
    beside = {"optimizer": optimizer.state_dict(), "scaler": {"scale": 65536.0}}
    path = save_family(tmp_path / "b.pt", model, **{"model": None, place: model, **beside})
    assert b"Loss" in path.read_bytes()
    assert fingerprint(path) == plain


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n", "yolov9t", "yolov10n", "yolo11n-seg", "yolo12n", "yolo26n", "yolo26n-seg"])
def test_a_fused_checkpoint_is_refused_by_the_reason(tmp_path: Path, name: str) -> None:
    path = save_family(tmp_path / "a.pt", make_family(name).fuse(verbose=False))
    with pytest.raises(
        WeightsError, match=r"a\.pt: layer 0 \(Conv\): .*fused for inference.*use the checkpoint"
    ) as caught:
        load_detector(path, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_old_configurations_and_modules_are_read(tmp_path: Path) -> None:
    """Factors instead of scales; Silence as YOLOv9's first layer; SPPF with SiLU behind its first convolution."""
    model = make_family("yolov8n")
    expected = own(model, pictures().double())[0]
    for name in ("scale", "scales"):
        model.yaml.pop(name)
    model.yaml.update(depth_multiple=0.33, width_multiple=0.25)
    with torch.inference_mode():
        detector = load(save_family(tmp_path / "a.pt", model))
        torch.testing.assert_close(detector.back(detector.front(pictures().double())), expected, rtol=1e-5, atol=1e-5)

    model = make_family("yolov8n")
    model.model[9].cv1.act = nn.SiLU(inplace=True)
    expected = own(model, pictures().double())[0]
    detector = load(save_family(tmp_path / "b.pt", model))
    with torch.inference_mode():
        torch.testing.assert_close(detector.back(detector.front(pictures().double())), expected, rtol=1e-5, atol=1e-5)

    model = make_family("yolov9e")
    model.yaml["backbone"][0] = [-1, 1, "Silence", []]
    path = save_family(tmp_path / "c.pt", model)
    silent = rename_classes(
        path,
        tmp_path / "d.pt",
        rb"ctorch\.nn\.modules\.linear\nIdentity\n",
        rb"cultralytics.nn.modules.block\nSilence\n",
    )
    assert load_detector(silent, device="cpu").split == load_detector(path, device="cpu").split == 27


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_a_run_of_ultralytics_is_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained by ultralytics itself on four pictures: last.pt as it leaves it, and best.pt without the optimizer."""
    from pictures import save_texture
    from ultralytics import YOLO

    monkeypatch.chdir(tmp_path)
    for index in range(4):
        save_texture(tmp_path / "images" / f"{index}.png", 64, 64, seed=index)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{index}.txt").write_text("1 0.5 0.5 0.4 0.4\n")
    (tmp_path / "data.yaml").write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames: [cat, dog, newt]\n")
    model = YOLO(f"{name}.yaml", verbose=False)
    settings = {"epochs": 1, "imgsz": 64, "batch": 2, "workers": 0, "device": "cpu", "plots": False, "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train(data="data.yaml", project=str(tmp_path), name="run", amp=False, **settings)
    for which in ("best", "last"):
        path = tmp_path / "run" / "weights" / f"{which}.pt"
        kept = torch.load(path, weights_only=False)
        expected = own(kept["ema"] or kept["model"], pictures().double())[0]
        detector = load(path)
        assert detector.names == ("cat", "dog", "newt")
        with torch.inference_mode():
            found = detector.back(detector.front(pictures().double()))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# Stored by featcodec, and threads


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov9t", "yolov10n", "yolo12n", "yolo26n-seg", "yolo26n-pose"])
def test_stored_detectors_are_the_same(tmp_path: Path, name: str) -> None:
    path = save_family(tmp_path / "a.pt", make_family(name))
    detector = load_detector(path, device="cpu", fuse=False)
    configuration = configuration_of(name).with_classes(len(NAMES))
    config = FamilyConfig(tuple(NAMES), configuration.mapping(), {"steps": 1})
    save_detector(tmp_path / "a.safetensors", config, detector.layers, half=False)
    assert read_detector(tmp_path / "a.safetensors")[0] == config
    stored = load_detector(tmp_path / "a.safetensors", device="cpu", fuse=False)
    assert stored.fingerprint == detector.fingerprint
    with torch.inference_mode():
        assert torch.equal(stored.back(stored.front(pictures())), detector.back(detector.front(pictures())))


def test_threads_that_load_different_detectors_are_right(tmp_path: Path) -> None:
    """ultralytics keeps its default activation and the kind of the class branch for the whole process."""
    names = ("yolov8n", "yolo11n", "yolov10n")
    paths = [save_family(tmp_path / f"{name}.pt", make_family(name)) for name in names]
    expected = [fingerprint(path) for path in paths]
    found: dict[int, list[bytes]] = {}

    def work(index: int) -> None:
        found[index] = [fingerprint(paths[(index + turn) % 3]) for turn in range(3)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {index: [expected[(index + turn) % 3] for turn in range(3)] for index in range(3)}
