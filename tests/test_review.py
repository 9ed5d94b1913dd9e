"""Blind review: order and sides shuffled and balanced, nothing leaks, faults told, agreement by hand."""

import re
from collections import Counter

import pytest

from ftlab.errors import DataError
from ftlab.review import Item, agreement, blind_sheet, left_share, page, preferred, read_ratings, unblind

MESSAGES = {f"r{i}": f"message {i}" for i in range(10)}
ANSWERS = {name: {at: f"{at} by {name[0]}" for at in MESSAGES} for name in ("old", "new")}


def test_each_system_stands_on_the_left_in_half_of_the_items():
    items, key = blind_sheet(MESSAGES, ANSWERS, "1")
    assert Counter(place.left for place in key.values()) == {"old": 5, "new": 5}
    for item in items:
        place = key[item.number]
        assert (item.message, item.left) == (MESSAGES[place.id], ANSWERS[place.left][place.id]) and place.left != place.right


def test_raters_get_orders_of_their_own_and_each_the_same_again():
    sheets = [blind_sheet(MESSAGES, ANSWERS, rater) for rater in ("1", "2", "1")]
    assert sheets[0] == sheets[2] and [p.id for p in sheets[0][1].values()] != [p.id for p in sheets[1][1].values()]
    sides = [{p.id: p.left for p in key.values()} for _, key in sheets[:2]]
    assert sides[0] != sides[1]


def test_unshuffled_keeps_order_and_sides():
    _, key = blind_sheet(MESSAGES, ANSWERS, "1", shuffle=False)
    assert [(p.id, p.left) for p in key.values()] == [(at, "old") for at in MESSAGES]


def test_the_page_names_no_system_and_shows_answers_as_text():
    items, _ = blind_sheet({"a": "x < y"}, {"old": {"a": "<script>alert(1)</script>"}, "tuned": {"a": "b & c"}}, "1")
    shown = page(items, "Which is kinder?", "1")
    assert "&lt;script&gt;alert(1)" in shown and "<script>alert" not in shown and "x &lt; y" in shown and "b &amp; c" in shown
    assert "old" not in re.sub("fold|hold|bold", "", shown) and "tuned" not in shown
    assert shown.count('type="radio"') == 3 and "http" not in shown


def test_ratings_are_read_and_unblinded(tmp_path):
    items, key = blind_sheet(MESSAGES, ANSWERS, "1")
    (tmp_path / "r.csv").write_text("number,choice\n" + "".join(f"{n},{'same' if n == 3 else 'left'}\n" for n in range(1, 11)))
    ratings = read_ratings(tmp_path / "r.csv", items)
    taken = unblind(ratings, key)
    assert taken[key[3].id] == "same" and taken[key[1].id] == key[1].left
    assert left_share(ratings).k == left_share(ratings).n == 9


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("1,left\n1,right\n", "r.csv:3: expected the number of an unrated item"),
        ("1,better\n2,left\n", r"r.csv:2: .* found \['1', 'better'\]"),
        ("7,left\n", "r.csv:2:"),
        ("1\n", "r.csv:2:"),
        ("2,left\n", "item 1 is not rated"),
    ],
)
def test_a_fault_in_the_ratings_is_told_by_line(tmp_path, lines, says):
    (tmp_path / "r.csv").write_text("number,choice\n" + lines)
    with pytest.raises(DataError) as error:
        read_ratings(tmp_path / "r.csv", [Item(1, "", "", ""), Item(2, "", "", "")])
    assert re.search(says, "\n".join(error.value.problems))


def test_a_missing_file_of_ratings_is_told(tmp_path):
    with pytest.raises(DataError, match="expected a file of ratings"):
        read_ratings(tmp_path / "none.csv", [])


def test_agreement_by_hand():
    # the two say the same of 3 of 4; chance (2·3 + 2·1)/16 = 1/2; kappa (3/4 − 1/2) / (1 − 1/2)
    found = agreement({"a": "x", "b": "x", "c": "y", "d": "y"}, {"d": "y", "c": "x", "b": "x", "a": "x"})
    assert (found["same"].k, found["same"].n, found["kappa"], found["differ"]) == (3, 4, pytest.approx(0.5), ["c"])
    assert found["low"] <= 0.5 <= found["high"]


def test_preferred_is_a_sign_test_of_the_rows_with_a_difference():
    taken = {str(i): "new" for i in range(6)} | {"s": "same", "t": "same"}
    assert preferred(taken, "new", "old") == {"new": 6, "old": 0, "same": 2, "p": pytest.approx(2 / 2**6)}


@pytest.mark.parametrize(
    "call",
    [
        lambda: blind_sheet(MESSAGES, {"old": ANSWERS["old"]}, "1"),
        lambda: blind_sheet(MESSAGES, {"old": ANSWERS["old"], "new": {}}, "1"),
        lambda: agreement({"a": "x"}, {"b": "x"}),
        lambda: left_share({1: "same"}),
    ],
)
def test_senseless_sheets_raise(call):
    with pytest.raises(ValueError, match="expected"):
        call()


def test_a_framed_page_cannot_reach_out_of_its_frame():
    from ftlab.notebook import framed

    shown = framed('<p title="x">a & b</p>', height=200).data
    assert 'srcdoc="&lt;p title=&quot;x&quot;&gt;a &amp; b&lt;/p&gt;"' in shown and "height:200px" in shown
    assert 'sandbox="allow-scripts allow-downloads"' in shown  # not allow-same-origin: it would reach the notebook
