import pytest
from pydicom import Dataset
from pydicom.sr.coding import Code

from bonexray.studies import BODY_PARTS
from serving.dicom import body_part
from serving.dicom.body_part import claimed_part, part_of_code, part_of_term


def region(value: str, scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "not read"
    return item


def header(term: str | None, *regions: Dataset) -> Dataset:
    dataset = Dataset()
    if term is not None:
        dataset.BodyPartExamined = term
    dataset.AnatomicRegionSequence = list(regions)
    return dataset


@pytest.mark.parametrize("part", BODY_PARTS)
def test_the_standards_own_term_names_a_part(part: str) -> None:
    assert part_of_term(part.removeprefix("XR_")) == part


@pytest.mark.parametrize(
    ("term", "part"),
    [
        ("wrist", "XR_WRIST"),
        ("HANDS", "XR_HAND"),
        ("LEFT HAND", "XR_HAND"),
        ("RT_WRIST", "XR_WRIST"),
        ("HAND 2 VIEWS", "XR_HAND"),
        ("THUMB", "XR_FINGER"),
        ("UPPER ARM", "XR_HUMERUS"),
        ("UPPER_ARM", "XR_HUMERUS"),
        ("RADIUSULNA", "XR_FOREARM"),
        ("RADIUS/ULNA", "XR_FOREARM"),
        ("FORE ARM", "XR_FOREARM"),
        ("SCAPHOID", "XR_WRIST"),
        ("CARPUS", "XR_WRIST"),
    ],
)
def test_a_side_a_plural_and_a_synonym_name_the_same_part(term: str, part: str) -> None:
    assert part_of_term(term) == part


@pytest.mark.parametrize(
    "term", ["", "EXTREMITY", "UP_EXM", "UPPER LIMB", "ARM", "HAND WRIST", "FOOT HAND", "?", "\xff"]
)
def test_a_term_of_several_or_of_no_part_says_nothing(term: str) -> None:
    assert part_of_term(term) == ""


@pytest.mark.parametrize(
    "term", ["CHEST", "SKULL", "FOOT", "KNEE", "C SPINE", "LSPINE", "PELVIS", "Lower_Leg", "TOES"]
)
def test_a_part_that_is_none_of_the_seven_is_other(term: str) -> None:
    assert part_of_term(term) == "other"


@pytest.mark.parametrize(
    ("code", "scheme", "part"),
    [
        ("85562004", "SCT", "XR_HAND"),
        ("T-D8700", "SRT", "XR_HAND"),
        ("T-D8700", "SNM3", "XR_HAND"),
        ("40983000", "SCT", "XR_HUMERUS"),
        ("56459004", "SCT", "other"),
        ("53120007", "SCT", ""),  # the upper limb
        ("85562004", "L", ""),  # a hospital's own code
    ],
)
def test_a_code_names_a_part(code: str, scheme: str, part: str) -> None:
    assert part_of_code(code, scheme) == part
    assert claimed_part(header(None, region(code, scheme))) == part


def test_both_codes_of_a_concept_name_the_same_part() -> None:
    tables = body_part._CODES.values()
    codes = [code for table in (*tables, body_part._OTHER_CODES) for code in table.split()]
    assert len(codes) == len(set(codes))
    old = [Code(code, "SRT", "") for code in codes if code.startswith("T-")]
    new = [Code(code, "SCT", "") for code in codes if code.isdigit()]
    pairs = [(srt, sct) for srt in old for sct in new if srt == sct]
    assert len(pairs) > 40
    for srt, sct in pairs:
        assert part_of_code(srt.value, "SRT") == part_of_code(sct.value, "SCT")


def test_the_code_speaks_only_where_the_term_says_nothing() -> None:
    assert claimed_part(header("EXTREMITY", region("85562004"))) == "XR_HAND"
    assert claimed_part(header("WRIST", region("85562004"))) == "XR_WRIST"
    assert claimed_part(header(None, region("85562004"), region("8205005"))) == ""
    assert claimed_part(header(None)) == ""
    assert claimed_part(header(None, Dataset())) == ""


def test_every_claim_is_one_of_the_seven_parts_or_other() -> None:
    parts = {*body_part._PARTS_OF_WORDS.values(), *body_part._PARTS_OF_CODES.values()}
    assert parts == {*BODY_PARTS, "other"}
