import pytest

from bonexray.studies import ViewPath, parse_view_path


def test_a_path_says_split_part_patient_study_and_label() -> None:
    path = "train/XR_WRIST/patient00042/study1_positive/image2.png"
    assert parse_view_path(path) == ViewPath(
        study="train/XR_WRIST/patient00042/study1_positive",
        mura_split="train",
        body_part="XR_WRIST",
        patient="patient00042",
        label=1,
    )
    assert parse_view_path(path.replace("positive", "negative")).label == 0


def test_a_body_part_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"'XR_KNEE' in .*expected one of XR_ELBOW, XR_FINGER"):
        parse_view_path("train/XR_KNEE/patient00042/study1_positive/image2.png")


@pytest.mark.parametrize(
    "path",
    [
        "test/XR_WRIST/patient00042/study1_positive/image2.png",
        "train/XR_WRIST/patient00042/study1_maybe/image2.png",
        "train/XR_WRIST/patient00042/study1_positive/._image2.png",
        "train/XR_WRIST/patient00042/study1_positive/image2.jpg",
        "train/XR_WRIST/patient00042/study1_positive/deep/image2.png",
        "",
    ],
)
def test_a_path_of_another_form_is_refused_with_the_form_expected(path: str) -> None:
    with pytest.raises(ValueError, match=r"expected train\|valid/XR_<PART>"):
        parse_view_path(path)
