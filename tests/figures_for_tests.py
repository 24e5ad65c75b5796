"""What the tests of figures share."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def legend_names(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def assert_texts_are_whole_and_apart(figure: Figure) -> None:
    """No text that lies straight is cut by the border or touches another."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    undrawn = _labels_beyond_limits(figure)
    texts = [
        text
        for text in figure.findobj(Text)
        if text.get_text() and text.get_visible() and text.get_rotation() in (0, 90)
        if text not in undrawn
    ]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    for text, box in boxes:
        assert min(box.x0, box.y0) >= 0, f"{text!r} is cut"
        assert (box.max <= figure.bbox.max).all(), f"{text!r} is cut"
    for number, (text, box) in enumerate(boxes):
        for other, other_box in boxes[number + 1 :]:
            assert not box.overlaps(other_box), f"{text!r} lies on {other!r}"


def _labels_beyond_limits(figure: Figure) -> set[Text]:
    """Labels of ticks outside of their axis, which are never drawn."""
    labels = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not low <= tick.get_loc() <= high:
                    labels.update({tick.label1, tick.label2})
    return labels
