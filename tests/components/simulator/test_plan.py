from collections import Counter

import pytest

from components import mura
from components.simulator.plan import plan_patients


@pytest.fixture(scope="module")
def whole():
    return plan_patients(1.0, 7)


def counted(patients, of):
    counts = Counter()
    for patient in patients:
        for study in patient.studies:
            counts[patient.split, study.part, study.label] += of(study)
    return counts


def published(table):
    return {
        (split, part, label): count
        for split, parts in table.items()
        for part, pair in parts.items()
        for label, count in enumerate(pair)
    }


def test_at_scale_one_every_published_count_is_met(whole):
    assert Counter(patient.split for patient in whole) == mura.PATIENTS
    assert counted(whole, lambda study: 1) == published(mura.STUDIES)
    assert counted(whole, lambda study: study.views) == published(mura.IMAGES)


def test_patients_are_numbered_as_muras_are(whole):
    assert [patient.number for patient in whole] == list(range(1, 11_968))
    assert {patient.split for patient in whole[:11_184]} == {"train"}
    assert whole[11_184].folder(whole[11_184].studies[0]).startswith("valid/")


def test_studies_have_a_plausible_number_of_views(whole):
    views = [study.views for patient in whole for study in patient.studies]
    assert (min(views), max(views) <= 12) == (1, True)


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_a_smaller_set_keeps_the_proportions(scale):
    plan = plan_patients(scale, 7)
    for table, of in ((mura.STUDIES, lambda study: 1), (mura.IMAGES, lambda study: study.views)):
        counts = counted(plan, of)
        for key, count in published(table).items():
            assert counts[key] == pytest.approx(scale * count, abs=1)


@pytest.mark.parametrize("scale", [0.0001, 0.003, 0.01])
def test_however_small_each_split_holds_both_labels_of_every_part(scale):
    counts = counted(plan_patients(scale, 7), lambda study: 1)
    assert set(counts) == set(published(mura.STUDIES))


def test_no_two_studies_share_a_folder_and_no_patient_two_splits(whole):
    folders = [patient.folder(study) for patient in whole for study in patient.studies]
    assert len(set(folders)) == len(folders)
    several_parts = [p for p in whole if len({study.part for study in p.studies}) > 1]
    assert len(several_parts) > 500


def test_only_abnormal_studies_have_findings(whole):
    assert all(bool(s.findings) == bool(s.label) for p in whole for s in p.studies)
