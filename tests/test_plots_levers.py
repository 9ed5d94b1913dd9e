"""Figures of notebook 03: what they draw is what they were given, and the alt text says it."""

import pytest

from ftlab.plots import against_bar, grouped_bars, hours_bars, lever_matrix, predicted_times, reading_lines
from ftlab.stats import share


def test_a_point_is_filled_where_the_whole_interval_reaches_the_bar():
    figure = against_bar({"few": share([True] * 20), "many": share([True] * 200)}, 0.9, "Passing")
    few, many = figure.axes[0].containers
    assert few.lines[0].get_markerfacecolor() == "white" and many.lines[0].get_markerfacecolor() == many.lines[0].get_color()
    assert "few 100.0 % [83.9, 100.0], not beyond doubt" in figure.get_label()


def test_each_system_has_its_own_style():
    some, none = ({"strict": share(hits).as_dict()} for hits in ([True, False], [False, False]))
    figure = grouped_bars({"tuned": some, "dice": none, "other": some}, ("strict",), "Held")
    bars = [container for container in figure.axes[0].containers if hasattr(container, "patches")]
    assert [bar.patches[0].get_height() for bar in bars] == [50, 0, 50]
    assert len({bar.patches[0].get_facecolor() for bar in bars}) == len({bar.patches[0].get_hatch() for bar in bars}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["tuned", "dice", "other"]
    assert "dice: strict 0.0 %" in figure.get_label()


def test_reading_lines_draw_both_kinds():
    figure = reading_lines([{"read": 0, "new": 9.0, "old": 2.5}, {"read": 1000, "new": 4.0, "old": 2.6}], before=5000)
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[9.0, 4.0], [2.5, 2.6]]
    assert "1000 read: notation 4.00, English 2.60" in figure.get_label()


def test_predicted_times_stand_beside_the_measured():
    figure = predicted_times([{"run": "small", "predicted_s": 90, "measured_s": 100}])
    assert sorted(patch.get_width() for patch in figure.axes[0].patches) == [90, 100]
    assert "small: predicted 90 s, took 100 s" in figure.get_label()


def test_hours_are_drawn_where_there_are_any():
    figure = hours_bars({"rows": (10, 0.5), "text": (0, 90)})
    ends = sorted(patch.get_x() + patch.get_width() for patch in figure.axes[0].patches)
    assert ends == pytest.approx([0.5, 10, 90]) and [t.get_text().strip() for t in figure.axes[0].texts] == ["10", "0.5", "90"]
    assert "text: people 0, two cores 90" in figure.get_label()


def test_the_matrix_marks_what_is_first():
    names = {"sft": "SFT", "retrieval": "retrieve"}
    figure = lever_matrix({"one": {"sft": "first", "retrieval": "no"}, "two": {"sft": "no", "retrieval": "no"}}, names)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1st", "·", "·", "·"]
    assert figure.get_label() == "Which lever for which case. one: SFT first; two: none."
