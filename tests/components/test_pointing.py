import numpy as np
import pandas as pd
import pytest

from components.pointing import pointing_game

SIZE, CELLS = 60, 6  # cells of 10 px


def truth(*lesions: tuple[int, str, float, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(lesions, columns=["row", "finding", "left", "top", "right", "bottom"])


def views(*rows: int) -> pd.DataFrame:
    return pd.DataFrame({"row": rows, "patient": [f"patient{row}" for row in rows]})


def peak(*cells: tuple[int, int]) -> np.ndarray:
    """Maps with their maximum in (down, across)."""
    cams = np.zeros((len(cells), CELLS, CELLS), np.float32)
    for number, cell in enumerate(cells):
        cams[(number, *cell)] = 1
    return cams


@pytest.mark.parametrize(
    ("cell", "hit"),
    [((2, 2), 1), ((2, 1), 1), ((1, 2), 1), ((3, 3), 1), ((2, 0), 0), ((4, 2), 0), ((2, 4), 0)],
)
def test_a_hit_lies_within_one_cell_of_the_box(cell: tuple[int, int], hit: int) -> None:
    # The box covers cell (2, 2): pixels 20 to 30 both ways.
    boxes = truth((7, "fracture", 20, 20, 30, 30))
    game = pointing_game(views(7), peak(cell), boxes, SIZE, draws=10, seed=0)
    assert game["accuracy"] == hit
    assert game["chance"] == pytest.approx(9 / 36)


def test_across_is_left_and_right_and_down_is_top_and_bottom() -> None:
    boxes = truth((0, "fracture", 0, 50, 10, 60))  # the lower left corner
    assert pointing_game(views(0), peak((5, 0)), boxes, SIZE, draws=10, seed=0)["accuracy"] == 1
    assert pointing_game(views(0), peak((0, 5)), boxes, SIZE, draws=10, seed=0)["accuracy"] == 0


def test_either_of_two_lesions_will_do_and_each_finding_has_its_share() -> None:
    boxes = truth(
        (3, "fracture", 0, 0, 10, 10), (3, "hardware", 50, 50, 60, 60), (5, "hardware", 0, 0, 9, 9)
    )
    game = pointing_game(views(3, 5), peak((5, 5), (5, 5)), boxes, SIZE, draws=10, seed=0)
    assert game["accuracy"] == 0.5
    assert game["count"] == 2
    assert game["by_finding"] == {"fracture": 0.0, "hardware": 0.5}


def test_views_without_a_lesion_and_lesions_of_other_views_are_left_out() -> None:
    nothing = (np.nan,) * 4
    boxes = truth((1, "", *nothing), (2, "fracture", 0, 0, 10, 10), (9, "fracture", 0, 0, 10, 10))
    game = pointing_game(views(1, 2), peak((3, 3), (0, 0)), boxes, SIZE, draws=10, seed=0)
    assert (game["count"], game["accuracy"]) == (1, 1.0)


def test_where_no_lesion_is_known_it_says_so() -> None:
    assert "simulated" in pointing_game(views(1), peak((0, 0)), None, SIZE, 10, 0)["skipped"]
    none = truth((1, "", *(np.nan,) * 4))
    assert "no view shows" in pointing_game(views(1), peak((0, 0)), none, SIZE, 10, 0)["skipped"]
