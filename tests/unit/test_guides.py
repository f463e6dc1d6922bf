"""What the guides show can be applied, and what they point to is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml
from tests.conftest import REPOSITORY
from tests.support.admission import refuse_invalid
from tests.support.builders import custom, digest, evaluation, fine_tune_job, model_deployment

from anneal.api import API_VERSION
from anneal.api.kinds import BY_NAME

Json = dict[str, Any]
PAGES = {
    str(page.relative_to(REPOSITORY)): page.read_text(encoding="utf-8")
    for below in ("*.md", "docs/**/*.md", "images/*.md", "tests/*/*.md")
    for page in sorted(REPOSITORY.glob(below))
}
#: Blocks of code, with the language that they say.
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`]+)`|^ {4}(.+)", re.MULTILINE)
#: Objects that an example may be a part of.
WHOLE: Mapping[str, Callable[[], Json]] = {
    "FineTuneJob": fine_tune_job,
    "Evaluation": evaluation,
    "ModelDeployment": model_deployment,
}
#: Where in a spec an example may begin.
PLACES = ("spec", "dataset")
#: A spec has one of each: the one that is shown takes the place of the builders' own.
ONE_OF = ({"lora", "qlora", "full"}, {"triton", "vllm"})
#: What a shown member cannot be without.
NEEDS: Mapping[str, Json] = {
    "judgeQuality": {
        "judge": {"openAI": {"model": "m"}, "secretRef": {"name": "s", "key": "k"}},
        "metrics": [{"name": "tone", "rubric": {"criteria": "Polite."}}],
    }
}


def examples() -> Iterator[tuple[str, Json]]:
    """Every YAML document of every page, after its page and line; digests that are left out are put in."""
    for page, text in PAGES.items():
        for block in FENCED.finditer(text):
            if block[1] == "yaml":
                shown = yaml.safe_load_all(block[2].replace("sha256:…", digest("example")))
                line = text.count("\n", 0, block.start()) + 1
                yield from ((f"{page}:{line}.{number}", document) for number, document in enumerate(shown))


EXAMPLES = dict(examples())


def objects(example: Json) -> list[Json]:
    """The object that an example is, or those of our kinds that it may be a part of, with what it leaves out."""
    if "apiVersion" in example:
        assert (example["apiVersion"] == API_VERSION) == (example["kind"] in BY_NAME), "there is no such kind"
        return [example]
    assert "spec" not in example or example.keys() <= {"kind", "metadata", "spec"}, "it has fields that no object has"
    kinds, shown = [example["kind"]] if "kind" in example else list(WHOLE), example.get("spec", example)
    return [whole(kind, place, shown) for kind in kinds for place in PLACES if shown.keys() <= members(kind, place)]


def members(kind: str, place: str) -> set[str]:
    """What the spec of a kind has, or the part of it that is called `place`, by the names that users write."""
    model: Any = BY_NAME[kind].model.model_fields["spec"].annotation
    if place != "spec":
        if place not in model.model_fields:
            return set()
        model = model.model_fields[place].annotation
    return {field.alias or name for name, field in model.model_fields.items()}


def whole(kind: str, place: str, shown: Json) -> Json:
    """An object of which `shown` is a part."""
    spec = WHOLE[kind]()["spec"]
    change = shown if place == "spec" else {place: {**spec[place], **shown}}
    for names in ONE_OF:
        if names & change.keys():
            spec = {name: value for name, value in spec.items() if name not in names}
    spec |= {name: value for member in change for name, value in NEEDS.get(member, {}).items()} | change
    if kind == "Evaluation" and "gates" not in change:
        spec["gates"] = [{"metric": spec["metrics"][0]["name"], "absolute": {"minLowerBound": "0.5"}}]
    return custom(kind, "example", spec)


@pytest.mark.parametrize("where", EXAMPLES)
def test_every_example_can_be_applied(where: str) -> None:
    example = EXAMPLES[where]
    if example.keys() == {"prices"}:
        return  # values of the chart
    found = objects(example)
    assert found, "it has fields that no kind has"
    for each in found:
        refuse_invalid(each)


def anchors(text: str) -> set[str]:
    """What `#…` may be of a page, by GitHub's rule."""
    titles = re.findall(r"^#+ (.*)", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", PAGES[page])):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (REPOSITORY / page).parent.joinpath(path).resolve() if path else REPOSITORY / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def code(text: str) -> str:
    """What a page shows as code, a piece a line."""
    blocks = [block[2] for block in FENCED.finditer(text)]
    return "\n".join(blocks + [span or line for span, line in CODE.findall(FENCED.sub("", text))])


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_and_file_that_is_named_is_there(page: str) -> None:
    shown = code(PAGES[page])
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    verbs = {verb for said in re.findall(r"\bmake([ a-z0-9-]+)", shown) for verb in said.split()}
    assert verbs <= set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    files = re.findall(r"(?:^|\s)((?:charts|crds|docs|images|manifests|operator|tests)/[\w./-]+)(?=\s|$|:)", shown)
    assert not [file for file in files if not (REPOSITORY / file).exists()]
