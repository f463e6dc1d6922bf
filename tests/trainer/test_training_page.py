"""The training report for people: complete, well-formed, and deaf to what names and texts try."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from tests.support.training_reports import REPORT, training_page

from anneal_trainer.publish.chart import Line, chart, ticks
from anneal_trainer.publish.page import page


class Tags(HTMLParser):
    """Every tag that a browser would see, and whether those that open also close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.seen.append(tag)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_nothing_in_it_can_run() -> None:
    text = training_page()
    tags = Tags(text)
    assert tags.open == []
    assert not {"script", "img", "iframe", "link"} & set(tags.seen)
    assert tags.seen.count("svg") == 5
    assert "default-src 'none'" in text
    assert "90,000" in text
    assert "300</b><span>tokens a second" in text


def test_a_run_of_one_step_has_no_picture_and_says_so() -> None:
    one = {**REPORT, "history": REPORT["history"][:1]}
    assert page(one, [(1.0, 1e-3)], {"read": 1}).count("Too few steps") == 4


def test_utilisation_that_is_not_known_is_not_shown() -> None:
    history = [{k: v for k, v in told.items() if k != "mfu"} for told in REPORT["history"]]
    trained = {k: v for k, v in REPORT["trained"].items() if k != "mfu"}
    assert "utilisation" not in page({**REPORT, "history": history, "trained": trained}, [], {"read": 1})
    assert "0.400</b><span>model FLOP utilisation" in training_page()


@pytest.mark.parametrize(
    ("most", "expected"),
    [(3.2, [0, 1, 2, 3, 4]), (1e-3, [0, 5e-4, 1e-3]), (60, [0, 20, 40, 60]), (0, [0, 1]), (float("inf"), [0, 1])],
)
def test_axes_have_round_numbers(most: float, expected: list[float]) -> None:
    assert ticks(most) == pytest.approx(expected)


def test_a_line_begins_and_ends_where_its_points_are() -> None:
    drawn = chart([Line("loss", [(0, 0), (100, 4)])], "step", "loss")
    assert 'd="M64.0 208.0L624.0 16.0"' in drawn
