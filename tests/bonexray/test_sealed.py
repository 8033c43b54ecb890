from pathlib import Path

import pytest

from bonexray.errors import SealError
from bonexray.sealed import seal, verify_seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plots").mkdir()
    (tmp_path / "report.html").write_text("a page")
    (tmp_path / "plots/roc.png").write_bytes(b"a picture")
    seal(tmp_path)
    return tmp_path


def test_a_sealed_folder_has_one_digest_of_all_its_files(folder: Path) -> None:
    digest = verify_seal(folder, {"report.html", "plots/roc.png"})
    (folder / "plots/roc.png").write_bytes(b"another")
    assert seal(folder) != digest


def test_an_altered_file_below_is_refused_with_both_digests(folder: Path) -> None:
    (folder / "plots/roc.png").write_bytes(b"another")
    with pytest.raises(SealError, match=r"plots/roc\.png: SHA-256 is [0-9a-f]{64}, expected"):
        verify_seal(folder, set())


@pytest.mark.parametrize("extra", ["plots/x.png", "deep/er/x"])
def test_an_extra_file_is_refused_wherever_it_lies(folder: Path, extra: str) -> None:
    (folder / extra).parent.mkdir(parents=True, exist_ok=True)
    (folder / extra).write_text("")
    with pytest.raises(SealError, match=rf"holds \['{extra}'\] beside its manifest"):
        verify_seal(folder, set())


def test_a_link_to_a_folder_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "more").symlink_to("/")
    with pytest.raises(SealError, match=r"holds \['more'\]"):
        verify_seal(folder, set())


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "report.html").unlink()
    with pytest.raises(SealError, match=r"lacks \['report.html'\]"):
        verify_seal(folder, set())


def test_a_file_that_was_never_there_is_missed(folder: Path) -> None:
    with pytest.raises(SealError, match=r"lacks \['gate.json'\]"):
        verify_seal(folder, {"report.html", "gate.json"})


@pytest.mark.parametrize("text", ["", "{}", '{"sha256": {"report.html": "x"}}'])
def test_a_broken_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(SealError, match=r"manifest\.json: not readable"):
        verify_seal(folder, set())
