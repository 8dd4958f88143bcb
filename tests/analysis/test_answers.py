"""The scores of answers, worked by hand as SQuAD's script has them."""

import numpy as np
import pytest

from jann.analysis import answer_scores, exact_match, word_f1


@pytest.mark.parametrize("said, right, exact, f1", [
    ("The Eiffel Tower!", "eiffel tower", 1, 1),
    ("an  Eiffel\ttower", "the Eiffel Tower.", 1, 1),
    ("in the Eiffel Tower", "Eiffel Tower", 0, 2 * 2 / (3 + 2)),
    ("theatre", "the atre", 0, 0),  # an article is a whole word
    ("U.S.", "US", 1, 1),
    ("so so good", "so good", 0, 2 * 2 / (3 + 2)),  # a word counts as often as it stands in both
    ("Tower Eiffel", "Eiffel Tower", 0, 1),
    ("Paris", "London", 0, 0),
    ("", "Paris", 0, 0),
    ("the", "", 1, 1),
])  # fmt: skip
def test_of_one_answer(said, right, exact, f1):
    assert exact_match(said, right) == exact_match(right, said) == exact
    assert np.isclose(word_f1(said, right), f1) and np.isclose(word_f1(right, said), f1)


def test_the_best_of_several_counts_and_nothing_may_be_right():
    right = [("Denver Broncos", "the Broncos of Denver"), ("1994", "in 1994"), ()]
    scores = answer_scores(["Broncos", "1994", "no idea"], right)
    assert np.isclose(scores["exact_match"], 100 / 3) and np.isclose(scores["f1"], 100 * (2 / 3 + 1 + 0) / 3)
    assert answer_scores([""], [()]) == {"exact_match": 100, "f1": 100}


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 answers and 1 lists of right ones"):
        answer_scores(["a", "b"], [("a",)])
    with pytest.raises(ValueError, match="0 answers"):
        answer_scores([], [])
    with pytest.raises(TypeError, match=r"right\[1\] is a string.*\['Paris'\]"):
        answer_scores(["a", "b"], [("a",), "Paris"])
