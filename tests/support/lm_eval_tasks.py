"""Tasks of lm-eval over documents of ours, answers to them, and tasks that the plugin refuses.

`sums` and `reading` are GSM8K's and DROP's own files, `capitals` and `colours` are a user's: one with several right
answers, one that scores by a function of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COUNT = 8
SUMS = """
include: {lm_eval}/gsm8k/gsm8k.yaml
task: sums
dataset_name: null
"""
READING = """
include: {lm_eval}/drop/default.yaml
task: reading
training_split: null
"""
# Of several right answers a list, of one a text: lm-eval takes all for what the first document is.
CAPITALS = """
task: capitals
output_type: generate_until
test_split: test
doc_to_text: Capital of {{country}}?
doc_to_target: "{{capitals if capitals|length > 1 else capitals[0]}}"
generation_kwargs: {until: ["\\n"]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}]
"""
COLOURS = """
task: colours
output_type: generate_until
test_split: test
num_fewshot: 0
doc_to_text: "{{thing}} is"
doc_to_target: "{{colours|join(' ')}}"
process_results: !function functions.process_results
generation_kwargs: {until: []}
filter_list:
- {name: first-word, filter: [{function: regex, regex_pattern: '(\\w+)'}, {function: take_first}]}
- {name: all, filter: [{function: take_first}]}
metric_list:
- {metric: share, aggregation: mean, higher_is_better: true}
- {metric: said, aggregation: !function functions.total, higher_is_better: true}
- {metric: missed, aggregation: mean, higher_is_better: false}
"""
FUNCTIONS = """
def process_results(doc, results):
    said = set(results[0].lower().split())
    if "fail" in said:
        raise ValueError("no score for this")
    share = len(said & set(doc["colours"])) / len(doc["colours"])
    return {"share": share, "said": len(said), "missed": 1 - share, "odds": float("nan")}

def total(scores):
    return sum(scores)
"""
BY_LIKELIHOOD = "is scored by the probability of given texts (output_type"
#: A line of the task's file, and what is said of it.
REFUSED = {
    "letters": ("output_type: multiple_choice", f"{BY_LIKELIHOOD} multiple_choice)"),
    "likely": ("output_type: loglikelihood", f"{BY_LIKELIHOOD} loglikelihood)"),
    "vote": ("repeats: 5", "asks each question 5 times"),
    "begun": ('gen_prefix: "Answer:"', "begins the answer itself (gen_prefix)"),
    "unsafe": ("unsafe_code: true", "runs what the model wrote as code (unsafe_code)"),
    "seen": ("doc_to_image: picture", "asks with pictures or sound"),
    "python": ("class: !function functions.total", "is a Python class"),
    "broken": ("process_docs: !function nowhere.at", "cannot be loaded: ImportError: Cannot import module 'nowhere'"),
    "lost": ("dataset_kwargs: {data_files: {test: nowhere.jsonl}}", "cannot be loaded: FileNotFoundError"),
}

_NO_DATE = {"day": "", "month": "", "year": ""}
ANSWERS: dict[str, dict[str, list[str]]] = {
    "sums": {
        "candidate": [
            "1000 + 5 = 1005\n#### 1,005",
            "#### 2005.",
            "It is $3,005.",
            "4005\nQuestion: and 9?\n#### 9",
            "5 thousand and 5",
            "",
            "#### -7005",
            "#### 8,005 and more",
        ],
        "base": ["#### 1005", "2005", "#### 3005</s>#### 1", "no idea", "five", "6,005.", "7", "8 8005"],
    },
    "reading": {
        "candidate": ["3", "three boats, some", "Three", "The 3 boats. And 4 ships.", "boats", "4", "", "some"],
        "base": ["three", "3", "three boats", "many", "3 boats", "some three boats", "no", "three. boats"],
    },
    "capitals": {
        "candidate": ["Town 0", "city 1", "TOWN 2\nis it", "Town 3", "", "Town 5 City 5", " Town 6", "City 7"],
        "base": ["Town 1"] * COUNT,
    },
    "colours": {
        "candidate": ["Red", "red and white", "", "white", "blue", "the red", "red\nred", "red white"],
        "base": ["White, red", "white red"] * (COUNT // 2),
    },
}


def documents() -> dict[str, list[dict[str, Any]]]:
    """Of each task."""
    numbers = range(1, COUNT + 1)
    towns = [(n, [f"Town {n}", f"City {n}"][: 2 - (n not in (0, 6))]) for n in range(COUNT)]
    return {
        "sums": [{"question": f"What is {n} thousand and 5?", "answer": f"{n}000 + 5\n#### {n},005"} for n in numbers],
        "reading": [_drop(n) for n in numbers],
        "capitals": [{"country": f"Land {n}", "capitals": names} for n, names in towns],
        "colours": [{"thing": f"Flag {n}", "colours": ["red", "white"][: 1 + n % 2]} for n in numbers],
    }


def write(home: Path, lm_eval: Path) -> Path:
    """The documents in `home`, the files of all tasks in a folder there, which is returned.

    `lm_eval` is the folder of lm-eval's own tasks.
    """
    for name, docs in documents().items():
        (home / f"{name}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    tasks = home / "tasks"
    tasks.mkdir()
    texts = {
        "sums": SUMS.format(lm_eval=lm_eval) + _over(home, "sums", "train", "test"),
        "reading": READING.format(lm_eval=lm_eval) + _over(home, "reading", "validation"),
        "capitals": CAPITALS + _over(home, "capitals", "test"),
        "colours": COLOURS + _over(home, "colours", "test"),
    }
    for name, (line, _) in REFUSED.items():
        about = f"task: {name}\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"
        texts[name] = about + _over(home, "sums", "test") + line
    for name, text in texts.items():
        (tasks / f"{name}.yaml").write_text(text)
    (tasks / "functions.py").write_text(FUNCTIONS)
    return tasks


def _over(home: Path, name: str, *splits: str) -> str:
    """Lines of a task's file that lead to documents of ours."""
    files = {split: str(home / f"{name}.jsonl") for split in splits}
    return f"dataset_path: json\ndataset_kwargs: {json.dumps({'data_files': files})}\n"


def _drop(n: int) -> dict[str, Any]:
    """As DROP has them: one answer, and others that people gave, each a number or some spans of the text."""
    number = {"number": "3", "spans": [], "date": _NO_DATE}
    spans = {"number": "", "spans": ["three boats", "some"], "date": _NO_DATE}
    return {
        "query_id": str(n),
        "passage": f"{n} ships and three boats came.",
        "question": "How many boats?",
        "answer": number if n % 2 else spans,
        "validated_answers": {"number": ["3", ""], "spans": [[], ["three"]], "date": [_NO_DATE] * 2},
    }
