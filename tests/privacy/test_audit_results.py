"""The table of an audit's folder: what is written comes back, with as many scores as there are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from featcodec.errors import InputError, OutputError
from featcodec.privacy.audit_results import (
    FILE_NAME,
    AuditResult,
    add_audit_results,
    check_audit_results,
    read_audit_results,
)
from featcodec.privacy.readers import Score

HEADER = "picture,image,original,side,label,attack,fingerprint,attacker,qp"


def result(image: str, attack: str = "recnet", **scores: Score) -> AuditResult:
    return AuditResult(
        picture=f"latent-{attack}/{image}.png",
        image=image,
        original=f"in/{image}.jpg",
        side="latent",
        label="latent",
        attack=attack,
        fingerprint="ab" * 8,
        attacker="cd" * 8,
        qp="38",
        scores=scores,
    )


def test_what_is_written_comes_back_with_its_counts(tmp_path: Path) -> None:
    first = result('a, "b"', psnr=Score(20.25, 1), plate_characters=Score(3, 14), faces=Score())
    second = result("c", psnr=Score(), plate_characters=Score(0, 7), faces=Score(1, 1))
    add_audit_results(tmp_path, [second, first])
    columns = "psnr,plate_characters,plate_characters_count,faces"
    assert (tmp_path / FILE_NAME).read_text().splitlines()[0] == f"{HEADER},{columns}"
    one, other = read_audit_results(tmp_path)
    assert dataclasses.replace(one, scores={}) == dataclasses.replace(first, scores={})
    assert one.scores["psnr"] == Score(20.25, 1)
    assert one.scores["plate_characters"].count == 14
    assert one.scores["plate_characters"].total == pytest.approx(3)
    assert one.scores["faces"] == Score()
    assert other.scores == {"psnr": Score(), "plate_characters": Score(0, 7), "faces": Score(1, 1)}


def test_what_is_attacked_again_is_replaced_and_other_scores_may_come_later(tmp_path: Path) -> None:
    add_audit_results(tmp_path, [result("a", psnr=Score(1, 1)), result("b", psnr=Score(2, 1))])
    again = dataclasses.replace(result("b", psnr=Score(3, 1), ssim=Score(0.5, 1)), qp="")
    add_audit_results(tmp_path, [again, dataclasses.replace(result("b", "direct"), picture="")])
    a, direct, b = read_audit_results(tmp_path)
    assert (a.scores, direct.picture) == ({"psnr": Score(1, 1), "ssim": Score()}, "")
    assert b == again
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "its first columns are not picture, image"),
        ("picture,original,label,fingerprint,recnet,qp,psnr,edge_psnr\n", "its first columns are not"),
        (f"{HEADER},psnr\na,b\n", r"row 1 \(line 2\) has 2 values"),
        (f"{HEADER},psnr\n{'x,' * 9}twenty\n", "'twenty' is not a number"),
        (f"{HEADER},psnr\n{'x,' * 9}nan\n", "'nan' is not a number"),
        (f"{HEADER},faces,faces_count\n{'x,' * 9}1,1.5\n", "'1.5' is not a count"),
        (f"{HEADER},faces,faces_count\n{'x,' * 9}1,-1\n", "'-1' is not a count"),
        (f"{HEADER},faces,faces_count\n{'x,' * 9}1,\n", "'' is not a count"),
        (f"{HEADER},{','.join(f'score{number}' for number in range(65))}\n", "over 64 columns of scores"),
        (HEADER.replace(",", ";") + "\n", "separated by semicolons"),
    ],
)
def test_what_is_no_such_table_is_one_line_with_a_remedy(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    for attempt in (read_audit_results, check_audit_results, lambda folder: add_audit_results(folder, [result("a")])):
        with pytest.raises(InputError, match=reason) as caught:
            attempt(tmp_path)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / FILE_NAME}: ")
        assert "remove it and run `featcodec audit` again" in message or "give the output folder" in message
        assert "\n" not in message
    assert (tmp_path / FILE_NAME).read_text() == content, "it was to stay"


def test_folders_without_a_table(tmp_path: Path) -> None:
    check_audit_results(tmp_path / "new")
    with pytest.raises(InputError, match=r"audit\.csv: no such file.*output folder of `featcodec audit`"):
        read_audit_results(tmp_path)
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="out: cannot be written"):
        add_audit_results(tmp_path / "out", [result("a")])
