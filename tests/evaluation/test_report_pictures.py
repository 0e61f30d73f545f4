"""The reconstruction grid: which images, which panels, and what is refused."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import pytest
from pictures import save_texture
from PIL import Image
from report_rows import make_attack

from featcodec.errors import InputError
from featcodec.evaluation.report.pictures import GridPanel, contact_sheet, read_grid
from featcodec.privacy.attack_results import FILE_NAME, add_attack_results, read_attack_results


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    names = (("latent", ("a", "b", "c")), ("compact", ("c", "b")))
    return [make_attack(tmp_path / label, tmp_path / "in", label, some) for label, some in names]


def test_images_that_all_attacks_have_stand_beside_their_original(folders: list[Path], tmp_path: Path) -> None:
    rows = read_grid(folders, 9, [tmp_path / "in"])
    assert [row.name for row in rows] == ["b", "c"]
    original, latent, compact = rows[0].panels
    assert [panel.label for panel in rows[0].panels] == ["original", "RecNet-latent", "RecNet-compact"]
    assert original.measured == ()
    assert latent.measured == ("PSNR 16.13 dB", "edge-PSNR 20.50 dB")
    assert np.array_equal(latent.pixels, pixels_of(tmp_path / "latent/b.png"))
    assert np.array_equal(compact.pixels, pixels_of(tmp_path / "compact/b.png"))
    halved = pixels_of(tmp_path / "in/b.png").reshape(32, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(original.pixels - halved).max() <= 1


def test_no_attack_is_no_grid() -> None:
    assert read_grid([], 6) == []


@pytest.mark.parametrize(("most", "names"), [(1, "a"), (2, "ac"), (3, "abd"), (6, "abcde")])
def test_few_of_many_images_are_spread(tmp_path: Path, most: int, names: str) -> None:
    folder = make_attack(tmp_path / "latent", tmp_path / "in", "latent", tuple("abcde"))
    assert [row.name for row in read_grid([folder], most, [tmp_path / "in"])] == list(names)


def test_bitstreams_say_their_qp(tmp_path: Path) -> None:
    folder = make_attack(tmp_path / "out", tmp_path / "in", "compact", qp="38")
    assert read_grid([folder], 1, [tmp_path / "in"])[0].panels[1].label == "RecNet-compact, QP 38"


def test_what_was_not_measured_is_not_said(tmp_path: Path) -> None:
    folder = make_attack(tmp_path / "out", tmp_path / "in", "latent", ("a", "b"))
    first, second = read_attack_results(folder)
    unmeasured = dataclasses.replace(first, psnr=math.nan, edge_psnr=math.nan)
    add_attack_results(folder, [unmeasured, dataclasses.replace(second, edge_psnr=math.nan)])
    rows = read_grid([folder], 2, [tmp_path / "in"])
    assert [row.panels[1].measured for row in rows] == [(), ("PSNR 16.13 dB",)]


@pytest.mark.slow
def test_large_pictures_are_shrunk_and_embedded_as_jpeg(tmp_path: Path) -> None:
    folder = make_attack(tmp_path / "out", tmp_path / "in", "latent", ("a",))
    save_texture(folder / "a.png", 800, 500)
    for panel in read_grid([folder], 1, [tmp_path / "in"])[0].panels:
        assert panel.pixels.shape == (240, 384, 3)
        kind, _, data = panel.data_uri.partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert (image.format, image.size) == ("JPEG", (384, 240))


def test_a_very_long_picture_stays_a_picture() -> None:
    panel = GridPanel("original", (), np.zeros((1, 384, 3), np.uint8))
    assert panel.data_uri.startswith("data:image/jpeg")


def test_the_contact_sheet_holds_all_rows(folders: list[Path], tmp_path: Path) -> None:
    rows = read_grid(folders, 2, [tmp_path / "in"])
    with Image.open(io.BytesIO(contact_sheet(rows))) as sheet:
        assert sheet.format == "JPEG"
        width, height = sheet.size
    with Image.open(io.BytesIO(contact_sheet(rows[:1]))) as half:
        assert half.size == (width, height // 2)
    assert width > 3 * 48


def test_images_in_common_are_needed(tmp_path: Path) -> None:
    first = make_attack(tmp_path / "latent", tmp_path / "in", "latent", ("a",))
    second = make_attack(tmp_path / "compact", tmp_path / "in", "compact", ("b",))
    with pytest.raises(InputError, match=rf"^{first}, {second}: have no image with an original in common; inv"):
        read_grid([first, second], 6, [tmp_path / "in"])
    (result,) = read_attack_results(first)
    add_attack_results(first, [dataclasses.replace(result, original="")])
    with pytest.raises(InputError, match=r"no image with an original.*`originals` for bitstreams"):
        read_grid([first], 6, [tmp_path / "in"])


def test_what_is_missing_is_named(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "compact/b.png").unlink()
    with pytest.raises(InputError, match=rf"^{tmp_path}/compact/b\.png: no such file"):
        read_grid(folders, 6, [tmp_path / "in"])
    save_texture(tmp_path / "compact/b.png", 48, 32)
    (tmp_path / "in/b.png").unlink()
    with pytest.raises(InputError, match=rf"^{tmp_path}/in/b\.png: no such file"):
        read_grid(folders, 6, [tmp_path / "in"])
    (tmp_path / "in/b.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=rf"^{tmp_path}/in/b\.png: not a readable image"):
        read_grid(folders, 6, [tmp_path / "in"])
    (tmp_path / "compact" / FILE_NAME).unlink()
    with pytest.raises(InputError, match=rf"^{tmp_path}/compact/attack\.csv: no such file"):
        read_grid(folders, 6, [tmp_path / "in"])


@pytest.mark.parametrize("name", ["../secret.png", "link/../../secret.png", "/etc/hostname", "link.png"])
def test_a_table_leads_nowhere_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = make_attack(tmp_path / "out", tmp_path / "in", "latent", ("a",))
    save_texture(tmp_path / "secret.png", 48, 32)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (result,) = read_attack_results(folder)
    (folder / FILE_NAME).unlink()
    add_attack_results(folder, [dataclasses.replace(result, picture=name)])
    with pytest.raises(InputError, match=rf"^{folder}: its table names {name}, which is outside the folder"):
        read_grid([folder], 6, [tmp_path / "in"])


def test_a_table_that_names_the_folder_itself_is_one_line(tmp_path: Path) -> None:
    folder = make_attack(tmp_path / "out", tmp_path / "in", "latent", ("a",))
    (result,) = read_attack_results(folder)
    (folder / FILE_NAME).unlink()
    add_attack_results(folder, [dataclasses.replace(result, picture="")])
    with pytest.raises(InputError, match=f"^{folder}: not a regular file"):
        read_grid([folder], 6, [tmp_path / "in"])


@pytest.mark.parametrize("name", ["secret.png", "in/../secret.png", "in/link.png", "elsewhere/secret.png"])
def test_a_table_names_no_original_outside_the_folders_that_are_given(tmp_path: Path, name: str) -> None:
    folder = make_attack(tmp_path / "out", tmp_path / "in", "latent", ("a",))
    for secret in ("secret.png", "elsewhere/secret.png"):
        save_texture(tmp_path / secret, 96, 64)
    (tmp_path / "in/link.png").symlink_to(tmp_path / "secret.png")
    (result,) = read_attack_results(folder)
    add_attack_results(folder, [dataclasses.replace(result, original=str(tmp_path / name))])
    for originals in ([], [tmp_path / "in"]):
        with pytest.raises(
            InputError, match=rf"^{folder}: its table names the original {tmp_path}/{name}; if it belongs"
        ):
            read_grid([folder], 6, originals)
    assert len(read_grid([folder], 6, [tmp_path])) == 1


def test_originals_in_the_folder_of_the_attack_need_no_option(tmp_path: Path) -> None:
    assert len(read_grid([make_attack(tmp_path / "out", tmp_path / "out/in", "latent")], 6)) == 2
