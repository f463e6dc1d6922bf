"""Each metric on the answers that fool simpler ones."""

from __future__ import annotations

import time

import pytest
from pydantic.alias_generators import to_camel

from anneal.api.metrics import METRICS, Metric
from anneal.api.model import ApiModel
from anneal_evaluator.metrics import REGISTRY, regex, scorer_of
from anneal_evaluator.metrics.scorer import Scorer


def scorer(**kind: object) -> Scorer:
    return scorer_of(Metric.model_validate({"name": "m"} | kind))


def test_every_metric_of_the_api_has_a_scorer() -> None:
    assert tuple(to_camel(member) for member in REGISTRY) == METRICS


LABELS: dict[str, object] = {"label": {"labels": ["turn_on", "turn_off"]}}


@pytest.mark.parametrize(
    ("kind", "answer", "reference", "expected"),
    [
        ({"exactMatch": {}}, " HassTurnOn\n", "HassTurnOn", 1),
        ({"exactMatch": {}}, "hassTurnOn", "HassTurnOn", 0),
        ({"exactMatch": {}}, "HassTurnOn.", "HassTurnOn", 0),
        ({"exactMatch": {}}, "", "x", 0),
        ({"normalizedMatch": {}}, "The  lights, please!", "lights please", 1),
        ({"normalizedMatch": {}}, "STRASSE", "straße", 1),
        ({"normalizedMatch": {}}, "ﬁne", "fine", 1),
        ({"normalizedMatch": {}}, "don't", "dont", 1),
        ({"normalizedMatch": {}}, "«Да»", "да", 1),
        ({"normalizedMatch": {}}, "theatre", "atre", 0),
        ({"normalizedMatch": {}}, "!", "?", 0),
        ({"normalizedMatch": {}}, "the", "a", 0),
        ({"normalizedMatch": {}}, "👍", "👎", 0),
        ({"f1": {}}, "the cat sat", "a cat sat down", 2 * 2 / (2 + 3)),
        ({"f1": {}}, "cat cat cat", "cat", 0.5),
        ({"f1": {}}, "dog", "cat", 0),
        ({"f1": {}}, "", "cat", 0),
        ({"regex": {"pattern": r"\d+"}}, "first 3, then 42.", "42", 1),
        ({"regex": {"pattern": r"answer: (\w+)"}}, "answer: a\nanswer: b", "the answer: b", 1),
        ({"regex": {"pattern": r"answer: (\w+)"}}, "b", "answer: b", 0),
        ({"regex": {"pattern": r"x|(y)"}}, "x", "y", 0),
        ({"jsonField": {"path": "order.id"}}, 'Sure!\n```json\n{"order": {"id": 7}}\n```', '{"order": {"id": 7.0}}', 1),
        ({"jsonField": {"path": "ok"}}, '{"ok": true}', '{"ok": 1}', 0),
        ({"jsonField": {"path": "ok"}}, '{"ok": [1, {"a": null}]}', '{"ok": [1, {"a": null}]}', 1),
        ({"jsonField": {"path": "ok"}}, '{"ok": [1]}', '{"ok": [1, 2]}', 0),
        ({"jsonField": {"path": "ok"}}, '{ {not json} {"ok": 1}', '{"ok": 1}', 1),
        ({"jsonField": {"path": "ok"}}, '{"other": 1}', '{"ok": null}', 0),
        ({"jsonField": {"path": "a.b"}}, '{"a": "b"}', '{"a": {"b": 1}}', 0),
        ({"jsonField": {"path": "a"}}, '{"a":' * 100_000, '{"a": 1}', 0),
        ({"jsonField": {"path": "a"}}, "no object", '{"a": 1}', 0),
        ({"numeric": {}}, "6 apples and 36 pears make 42.", "42", 1),
        ({"numeric": {}}, "It costs $1,234.50", "1234.5", 1),
        ({"numeric": {}}, "0.30000000000000004", "0.3", 1),
        ({"numeric": {}}, "−3", "-3", 1),
        ({"numeric": {}}, "from 3-4", "4", 1),
        ({"numeric": {}}, "-2.5e-3", "-.0025", 1),
        ({"numeric": {}}, "x2", "2", 0),
        ({"numeric": {}}, "none", "2", 0),
        ({"numeric": {}}, "9" * 500, "2", 0),
        ({"numeric": {}}, "10.04", "10", 0),
        ({"numeric": {"absoluteTolerance": "0.05"}}, "10.04", "10", 1),
        ({"numeric": {"relativeTolerance": "0.01"}}, "-99.5", "-100", 1),
        ({"numeric": {"relativeTolerance": "0.01"}}, "98", "100", 0),
        (LABELS, "turn_on", "turn_on", 1),
        (LABELS, " Turn on.\n", "turn_on", 1),
        (LABELS, "not turn_on", "turn_on", 0),
        (LABELS, "turn_off", "turn_on", 0),
        (LABELS, "", "turn_on", 0),
    ],
)
def test_scores(kind: dict[str, object], answer: str, reference: str, expected: float) -> None:
    metric = scorer(**kind)
    assert metric.score(answer, reference) == pytest.approx(expected)
    assert metric.is_binary == ("f1" not in kind)


#: (answer, reference, rouge-score 0.1.2 without stemming, sacrebleu 2.6.0 sentence_chrf / 100)
GOLDEN = [
    ("the cat sat on the mat", "the cat was on the mat", 0.833333, 0.620691),
    ("The gunman was shot dead by police.", "Police killed the gunman, who was shot.", 0.571429, 0.42783),
    ("a b c d", "d c b a", 0.25, 0.25),
    ("Turn-on the lights", "turn on the light", 0.75, 0.695453),
    ("short", "a much longer reference text that goes on", 0.0, 0.035461),
    ("x", "x", 1.0, 1.0),
    ("", "reference", 0.0, 0.0),
    ("a a a", "a", 0.5, 0.714286),
    ("Das ist gut.", "Das war gut!", 0.666667, 0.215741),
    ("ab", "abc", 0.0, 0.636364),
    ("Hello  world", "Hello world", 1.0, 1.0),
]


@pytest.mark.parametrize(("answer", "reference", "rouge", "chrf"), GOLDEN)
def test_overlap_is_that_of_the_reference_implementations(
    answer: str, reference: str, rouge: float, chrf: float
) -> None:
    assert scorer(rougeL={}).score(answer, reference) == pytest.approx(rouge, abs=1e-6)
    assert scorer(chrf={}).score(answer, reference) == pytest.approx(chrf, abs=1e-6)


def test_other_scripts_have_words_too() -> None:
    assert scorer(rougeL={}).score("кошка сидит дома", "кошка спит дома") == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", ["rougeL", "chrf"])
def test_a_very_long_answer_takes_no_very_long_time(kind: str) -> None:
    started = time.monotonic()
    scorer(**{kind: {}}).score("word " * 20_000, "word " * 300)
    assert time.monotonic() - started < 10


def test_labels_that_cannot_be_told_apart_are_told() -> None:
    with pytest.raises(ValueError, match="'turn_on' and 'Turn on' cannot be told apart"):
        scorer(label={"labels": ["turn_on", "Turn on"]})


@pytest.mark.parametrize(
    ("kind", "reference", "sentence"),
    [
        ({"numeric": {}}, "none", "it has no number"),
        (LABELS, "dim", "it is none of the labels"),
        ({"regex": {"pattern": r"\d"}}, "none", "finds nothing in it"),
        ({"jsonField": {"path": "a.b"}}, '{"a": {}}', "no JSON object with the field a.b"),
    ],
)
def test_a_reference_that_nothing_could_match_is_told(kind: dict[str, object], reference: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        scorer(**kind).check_reference(reference)


@pytest.mark.parametrize(("pattern", "sentence"), [("(", "not a regular expression"), ("(a)(b)", "has 2 groups")])
def test_an_unusable_pattern_is_told(pattern: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        scorer(regex={"pattern": pattern})


def test_a_pattern_that_backtracks_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "SEARCH_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(ValueError, match="backtrack"):
        scorer(regex={"pattern": "(?:a+)+b"}).score("a" * 40, "aab")
    assert time.monotonic() - started < 5


def test_scorers_take_the_options_of_their_own_kind() -> None:
    for member in REGISTRY:
        options = Metric.model_fields[member].annotation
        assert any(isinstance(kind, type) and issubclass(kind, ApiModel) for kind in options.__args__)
