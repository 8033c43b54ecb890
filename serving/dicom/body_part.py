"""Which body part a DICOM header says is seen. Knows no pixels.

A header is wrong about one time in seven, so this is a claim, held against the network's own view.

BodyPartExamined is free enough that writers add the side, the number of views or a plural. Its
words are looked up one by one, in upper case, with and without a plural's S:

- one of the seven parts, by the defined terms of PS3.16 annex L and their usual synonyms: that part
  (a thumb is a finger; radius and ulna are the forearm; carpus and scaphoid are the wrist);
- words of another part alone (chest, skull, foot, knee): `other`;
- of two of the seven, of both kinds, or none of these: nothing. `ARM` is the upper arm in the
  standard and the whole limb in practice, and so says nothing, like `EXTREMITY`.

AnatomicRegionSequence speaks where that says nothing: SNOMED CT codes (SCT), and the SNOMED RT
codes (SRT, once SNM3 and 99SDM) that stood for the same concepts.
"""

import re

from pydicom import Dataset

OTHER = "other"

_WORDS = {
    "XR_ELBOW": "ELBOW OLECRANON",
    "XR_FINGER": "FINGER THUMB",
    "XR_FOREARM": "FOREARM RADIUS ULNA RADIUSULNA",
    "XR_HAND": "HAND METACARPUS METACARPAL",
    "XR_HUMERUS": "HUMERUS UPPERARM",
    "XR_SHOULDER": "SHOULDER",
    "XR_WRIST": "WRIST CARPUS CARPAL SCAPHOID",
}
_OTHER_WORDS = """
    ABDOMEN ACETABULUM ANKLE BREAST CALCANEUS CALF CHEST CLAVICLE COCCYX CSPINE CTSPINE FACE
    FACIALBONE FEMUR FIBULA FOOT HEAD HEEL HIP HIPJOINT JAW KNEE LEG LOWERLEG LOWERLIMB LSPINE
    LSSPINE LUNG MANDIBLE MAXILLA NECK NOSE ORBIT PATELLA PELVIS RIB SACRUM SCAPULA SCALP SINUS
    SKULL SPINE SSPINE STERNUM THIGH THORAX TIBIA TIBIAFIBULA TLSPINE TMJ TOE TSPINE
    WHOLEBODY ZYGOMA
"""

_CODES = {
    "XR_ELBOW": "127949000 T-D8300 16953009 T-15430",
    "XR_FINGER": "7569003 T-D8800 76505004 T-D8810",
    "XR_FOREARM": "14975008 T-D8500 62413002 T-12420 23416004 T-12430 110535000 T-12403",
    "XR_HAND": "85562004 T-D8700 36455000 T-12540",
    "XR_HUMERUS": "85050009 T-12410 40983000 T-D8200",
    "XR_SHOULDER": "16982005 T-D2220 31398001 T-15410",
    "XR_WRIST": "74670003 T-15460 8205005 T-D8600 30518006 T-12450",
}
_OTHER_CODES = """
    51185008 T-D3000 816094009 69536005 T-D1100 89546000 T-11100 56459004 T-D9700 72696002 T-D9200
    49076000 T-15720 70258002 T-15750 29836001 T-D2500 24136001 T-15710 12921003 T-D6000 816092008
    113345001 T-D4000 818981001 421060004 T-D04FF 122494005 T-11501 122495006 T-11502 122496007
    T-11503 30021000 T-D9400 68367000 T-D9100 61685007 T-D9000 71341001 T-12710 12611008 T-12740
    87342007 T-12750 29707007 T-D9800 51299004 T-12310 79601000 T-12280 113197003 T-11300 56872003
    T-11210 91609006 T-11180 70925003 T-11170 45048000 T-D1600 80144004 T-12770 54735007 T-11AD0
    64688005 T-11BF0 64234005 T-12730 76752008 T-04000 89545001 T-D1200
"""
_PARTS_OF_WORDS = dict.fromkeys(_OTHER_WORDS.split(), OTHER) | {
    word: part for part, words in _WORDS.items() for word in words.split()
}
_PARTS_OF_CODES = dict.fromkeys(_OTHER_CODES.split(), OTHER) | {
    code: part for part, codes in _CODES.items() for code in codes.split()
}
_SCHEMES = ("SCT", "SRT", "SNM3", "99SDM")


def claimed_part(header: Dataset) -> str:
    """One of `bonexray.studies.BODY_PARTS`, `other`, or "" when the header does not say."""
    named = part_of_term(str(header.get("BodyPartExamined") or ""))
    regions = header.get("AnatomicRegionSequence") or []
    if named or len(regions) != 1:
        return named
    code = str(regions[0].get("CodeValue") or "").strip()
    scheme = str(regions[0].get("CodingSchemeDesignator") or "").strip()
    return part_of_code(code, scheme)


def part_of_term(term: str) -> str:
    """What a term of BodyPartExamined says, as `claimed_part` does."""
    words = re.findall(r"[A-Z]+", term.upper())
    # UPPER ARM and C_SPINE are one word in the tables.
    written = [*words, *(first + second for first, second in zip(words, words[1:], strict=False))]
    found = {_PARTS_OF_WORDS.get(word) for word in written}
    found |= {_PARTS_OF_WORDS.get(word.removesuffix("S")) for word in written}
    claims = [part for part in found if part is not None]
    return claims[0] if len(claims) == 1 else ""


def part_of_code(code: str, scheme: str) -> str:
    """What a code of AnatomicRegionSequence says, as `claimed_part` does."""
    return _PARTS_OF_CODES.get(code, "") if scheme in _SCHEMES else ""
