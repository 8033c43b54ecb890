"""What an archive lists beside what was published of MURA-v1.1."""

import pandas as pd

from components import mura


def totals(index: pd.DataFrame) -> pd.DataFrame:
    """What the CSVs list beside what was published: patients, studies and images.

    Returns:
        Columns what, of, listed and published; path says all of it in words.
    """
    listed = index[index["listed"] & (index["patient"] != "")]
    patients = listed.groupby("mura_split")["patient"].nunique()
    rows = [
        ("patients", split, int(patients.get(split, 0)), published)
        for split, published in mura.PATIENTS.items()
    ]
    keys = ["mura_split", "body_part", "csv_label"]
    images = listed[listed["problem"] != "study_without_image"].groupby(keys).size()
    studies = listed.groupby(keys)["study"].nunique()
    for what, found, published_by in (
        ("studies", studies, mura.STUDIES),
        ("images", images, mura.IMAGES),
    ):
        for split, parts in published_by.items():
            for part, pair in parts.items():
                for label, published in enumerate(pair):
                    name = f"{split}/{part}/{mura.LABELS[label]}"
                    rows.append((what, name, int(found.get((split, part, label), 0)), published))
    table = pd.DataFrame(rows, columns=["what", "of", "listed", "published"])
    table["path"] = [
        f"{of}: {published:,} {what} published, {listed:,} listed"
        for what, of, listed, published in rows
    ]
    return table
