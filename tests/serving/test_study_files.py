import pytest

from bonexray.errors import DataError
from serving.study_files import find_studies
from tests.serving.dicom.files import dicom, radiograph


@pytest.fixture(scope="module")
def radiograph_file():
    return dicom(radiograph(32, 32))


def names(study):
    return [path.name for path in study.views]


def test_a_folders_views_come_in_the_order_of_their_numbers(tmp_path, png):
    for name in ("image10.png", "image9.PNG", "image2.jpeg", "Image1.jpg"):
        (tmp_path / name).write_bytes(png(60))
    (study,) = find_studies([tmp_path])
    assert names(study) == ["Image1.jpg", "image2.jpeg", "image9.PNG", "image10.png"]
    assert study.num_bytes == 4 * len(png(60))


def test_views_are_known_by_what_they_hold_where_they_have_no_suffix(
    tmp_path, png, radiograph_file
):
    (tmp_path / "IM0001").write_bytes(radiograph_file)
    (tmp_path / "1.2.840.10008").write_bytes(radiograph_file)
    (tmp_path / "export").write_bytes(png(60))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("of no use")
    assert names(find_studies([tmp_path])[0]) == ["1.2.840.10008", "export", "IM0001"]


def test_what_is_no_view_of_the_study_is_left_out(tmp_path, png, radiograph_file):
    for name in ("DICOMDIR", "dicomdir", "._image1.png", ".hidden"):
        (tmp_path / name).write_bytes(radiograph_file)
    (tmp_path / "earlier.dcm").mkdir()
    (tmp_path / "earlier.dcm" / "image1.png").write_bytes(png(60))
    (tmp_path / "view.dcm").write_bytes(radiograph_file)
    assert names(find_studies([tmp_path])[0]) == ["view.dcm"]


def test_a_damaged_view_is_not_left_out(tmp_path):
    for name in ("image1.png", "image2.DCM"):
        (tmp_path / name).write_bytes(b"torn")
    assert names(find_studies([tmp_path])[0]) == ["image1.png", "image2.DCM"]


def test_each_folder_is_a_study(tmp_path, png):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "image1.png").write_bytes(png(60))
    studies = find_studies([tmp_path / "b", tmp_path / "a"])
    assert [study.name for study in studies] == [str(tmp_path / "b"), str(tmp_path / "a")]
    assert [names(study) for study in studies] == [["image1.png"], ["image1.png"]]


def test_views_named_one_by_one_are_one_study_in_that_order(tmp_path, png):
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(png(60))
    (study,) = find_studies([tmp_path / "2.png", tmp_path / "1.png"])
    assert (study.name, names(study)) == ("", ["2.png", "1.png"])


def test_what_is_no_study_is_told(tmp_path, png):
    with pytest.raises(DataError, match="holds no PNG, JPEG or DICOM file"):
        find_studies([tmp_path])
    with pytest.raises(DataError, match="gone: no such file or folder"):
        find_studies([tmp_path / "gone"])
    (tmp_path / "1.png").write_bytes(png(60))
    with pytest.raises(DataError, match="both folders and files"):
        find_studies([tmp_path, tmp_path / "1.png"])
