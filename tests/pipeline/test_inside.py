"""What the components do inside their containers, beside calling a step."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from bonexray.bundle import PROFILE_FILE, open_bundle
from bonexray.errors import BundleError, DataError, GateError
from bonexray.store import BundleStore, Champion
from pipeline import inside
from pipeline.closing import close_run, keep_report
from pipeline.inside import on_the_volume, refusal_of, release_folder


def exits(cause: Exception | None):
    def main(argv: list[str]) -> None:
        raise SystemExit(1) from cause

    return main


def test_the_refusal_of_a_gate_is_a_result_and_any_other_failure_is_one() -> None:
    assert refusal_of(exits(GateError("too few studies")), []) == "too few studies"
    assert refusal_of(lambda argv: None, []) == ""
    for cause in (DataError("torn"), None):
        with pytest.raises(SystemExit):
            refusal_of(exits(cause), [])


def test_a_champion_becomes_a_release_folder_and_none_an_absent_one(bundle_folder: Path) -> None:
    assert not Path(release_folder({}, None)).exists()
    digest = open_bundle(bundle_folder).digest
    champion = {"model_name": "bonexray", "version": "4", "digest": digest}
    release = Path(release_folder(champion, str(bundle_folder)))
    assert BundleStore(release).champion() == Champion(**champion)
    assert (release / PROFILE_FILE).exists()


def test_another_bundle_than_the_champions_is_refused(bundle_folder: Path) -> None:
    champion = {"model_name": "bonexray", "version": "4", "digest": "f" * 64}
    with pytest.raises(BundleError):
        release_folder(champion, str(bundle_folder))


def test_a_training_that_is_tried_again_finds_what_the_try_before_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "VOLUME", tmp_path / "volume")
    monkeypatch.setenv("BONEXRAY_RUN", "run-1")
    out = tmp_path / "out"
    checkpoint = tmp_path / "volume/runs/run-1/.resnet18.checkpoint"

    def stopped() -> None:
        with on_the_volume("resnet18", str(out)):
            checkpoint.write_text("epoch 3")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not out.exists()
    with on_the_volume("resnet18", str(out)) as again:
        assert Path(again).parent == checkpoint.parent
        assert checkpoint.read_text() == "epoch 3"
        Path(again).mkdir()
        (Path(again) / "weights").write_text("w")
    assert (out / "weights").read_text() == "w"
    assert not Path(again).exists()


def test_without_a_volume_a_training_writes_where_its_output_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BONEXRAY_RUN", raising=False)
    with on_the_volume("resnet18", "/an/output") as place:
        assert place == "/an/output"


def report_of(folder: Path, name: str, page: str, file: str) -> None:
    report = folder / name
    (report / file).parent.mkdir(parents=True)
    (report / file).write_text(page)
    keep_report(name, str(report), str(folder / "workspace"))


def closed(folder: Path, state: str, message: str = "") -> str:
    page = folder / "page"
    close_run(str(folder / "workspace"), state, message, str(page), str(folder / "reports"))
    return page.read_text()


def test_a_run_that_came_to_no_gate_leaves_a_page_that_says_so(tmp_path: Path) -> None:
    page = closed(tmp_path, "FAILED", "Task <ingest> failed")
    assert "did not come to its first gate" in page
    assert "Run failed." in page
    assert "Task &lt;ingest&gt; failed" in page
    assert list((tmp_path / "reports").iterdir()) == []


def test_the_page_of_the_last_gate_is_left_with_how_the_run_ended(tmp_path: Path) -> None:
    index = '<html><body><img src="../sheets/a.png"><a href="x.html">x</a></body></html>'
    (tmp_path / "validation/sheets").mkdir(parents=True)
    (tmp_path / "validation/sheets/a.png").write_bytes(b"png")
    report_of(tmp_path, "validation", index, "data_docs/index.html")
    page = closed(tmp_path, "FAILED")
    assert 'src="data:image/png;base64,' in page
    assert "<a href" not in page
    report_of(tmp_path, "evaluation", "<html><body>figures</body></html>", "report.html")
    page = closed(tmp_path, "SUCCEEDED")
    assert "figures" in page
    assert "Run succeeded." in page
    assert "evaluation and validation" in page
    assert (tmp_path / "reports/validation/sheets/a.png").exists()


def test_a_damaged_report_is_no_reason_for_no_page(tmp_path: Path) -> None:
    report_of(tmp_path, "validation", "x", "report.json")
    page = closed(tmp_path, "FAILED")
    assert "The page of validation cannot be shown" in page
    assert "Run failed." in page


def test_a_picture_outside_of_the_report_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"png")
    page = '<html><body><img src="../../../../../secret.png"></body></html>'
    report_of(tmp_path, "validation", page, "data_docs/index.html")
    assert "is no picture of the report" in closed(tmp_path, "FAILED")


def test_a_report_is_kept_whole_when_a_gate_is_tried_again(tmp_path: Path) -> None:
    report = SimpleNamespace(path=tmp_path / "evaluation")
    report_of(tmp_path, "evaluation", "<html><body>one</body></html>", "report.html")
    (report.path / "report.html").write_text("<html><body>two</body></html>")
    keep_report("evaluation", str(report.path), str(tmp_path / "workspace"))
    assert "two" in closed(tmp_path, "SUCCEEDED")
