"""Figures of notebook 04: what they draw is what they were given, and the alt text says it."""

from ftlab.plots import deciders, label_matrix, refusal_plane, reliability, rows_curves, share_points
from ftlab.stats import calibration, detectable_difference, share


def test_deciders_put_each_demand_in_one_column():
    checks = [{"rung": "schema", "code": "schema", "sees": "answer"}, {"rung": "field", "code": "invented", "sees": "message"}]
    figure = deciders(checks, people=("plain and polite",))
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0], [1], [], [2]]
    assert "people: plain and polite" in figure.get_label() and "label: none" in figure.get_label()


def test_checks_of_one_name_are_told_apart_by_their_field():
    checks = [{"rung": "field", "code": "invented", "path": path, "sees": "message"} for path in ("machine", "part")]
    labels = [label.get_text() for label in deciders(checks).axes[0].get_yticklabels()]
    assert labels == ["field: invented (machine)", "field: invented (part)"]


def test_the_label_matrix_counts_pairs():
    figure = label_matrix(["a", "a", "b"], ["a", "b", "b"], "Action")
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "·", "1"]
    assert figure.get_label() == "Action: two labellings agree on 2 of 3 rows. They differ: a against b 1."


def test_rows_curves_leave_out_sizes_that_find_nothing():
    figure = rows_curves((5, 100), share=0.9, discordant=(0.2,))
    left, right = figure.axes
    assert list(left.lines[0].get_xdata()) == [5, 100] and list(right.lines[0].get_xdata()) == [100]
    assert list(right.lines[0].get_ydata()) == [100 * detectable_difference(100, 0.2)]


def test_reliability_draws_a_point_a_bin():
    found = calibration([0.9, 0.9, 0.2, 0.2], [True, True, False, True], bins=2)
    figure = reliability({"x": found}, "Stated and true")
    assert (
        list(figure.axes[0].lines[2].get_ydata()) == [50, 100] and "20 stated 50 right, 90 stated 100 right" in figure.get_label()
    )


def test_share_points_and_refusal_plane_tell_their_numbers():
    some, none = share([True, False]).as_dict(), share([False] * 4).as_dict()
    figure = share_points({"one": some, "two": none}, "Agreement", "rows")
    assert list(figure.axes[0].lines[0].get_xdata()) == [50, 0] and "one 50.0 % of 2" in figure.get_label()
    figure = refusal_plane({"refuses all": (some, none)})
    assert "refuses all turns down 50.0 %, complies with 0.0 %" in figure.get_label()
