"""Rows in a language that is not wanted are left out and counted; what cannot be told stays, and is counted, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.trainer.job import Job
from tests.trainer.test_bad_input import refused
from tests.trainer.test_data_choice import as_dict, data, rejected

from anneal.api.dataset import LANGUAGES, Cleaning, DatasetExpectations, DatasetSplit, Deduplication
from anneal_trainer.prepare import languages

TOLD = {
    "en": "Please send the parcel to my new address, I moved house last week.",
    "de": "Bitte schicken Sie das Paket an meine neue Adresse, ich bin umgezogen.",
    "fr": "Veuillez envoyer le colis à ma nouvelle adresse, j'ai déménagé.",
    "es": "Por favor, envíe el paquete a mi nueva dirección, me mudé la semana pasada.",
    "nl": "Stuur het pakket alstublieft naar mijn nieuwe adres, ik ben verhuisd.",
    "pl": "Proszę wysłać paczkę na mój nowy adres, przeprowadziłem się.",
    "uk": "Будь ласка, надішліть посилку на мою нову адресу, я переїхав.",
    "ja": "荷物を新しい住所に送ってください。先週引っ越しました。",
    "el": "Παρακαλώ στείλτε το δέμα στη νέα μου διεύθυνση, μετακόμισα.",
}
UNTOLD = ["ok", "12345", "{}", "https://example.org/a?b=c", "def f(x): return x + 1", "SELECT * FROM t;", "🙂", ""]


@pytest.mark.parametrize(("language", "text"), TOLD.items())
def test_languages_are_told_apart(language: str, text: str) -> None:
    assert languages.language_of(text) == language


@pytest.mark.parametrize("text", UNTOLD)
def test_what_is_no_language_is_none(text: str) -> None:
    assert languages.language_of(text) is None


def test_the_languages_of_the_api_are_those_of_the_model() -> None:
    labels = {str(label) for label in languages._identifier().labels}
    assert set(LANGUAGES.split("|")) == labels - {"zxx"}


@pytest.fixture
def job(base: Path, tmp_path: Path) -> Job:
    """The tiny model has a token for each byte, and rows here are much alike."""
    job = Job(base, tmp_path, deduplication=Deduplication(near="Ignore"), split=DatasetSplit(held_out=0))
    job.training = job.training.model_copy(update={"max_length": 1024})
    return job


@pytest.fixture(autouse=True)
def _long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anneal_trainer.model.longest_context", lambda directory: 1024)


def rows(count: int, *more: tuple[str, str]) -> list[dict[str, Any]]:
    known = [(f"{n}: {TOLD['en']}", str(n)) for n in range(count)]
    return [{"prompt": prompt, "completion": completion} for prompt, completion in [*known, *more]]


def test_what_is_off_is_left_out_with_its_line_and_what_is_too_short_is_kept(job: Job) -> None:
    job.rows = rows(24, ("4711", TOLD["fr"]), (TOLD["fr"], "oui"), ("ok?", "ok"), (TOLD["de"], "sent: 3"))
    job.cleaning = Cleaning(languages=["en", "de"])
    found = data(job)
    assert (found.counts.read, found.counts.invalid) == (28, 0), "a row in another language is no broken one"
    assert found.counts.train + found.counts.held_out == 26
    assert as_dict(found.left_out) == {"Language": 2}
    assert as_dict(found.flagged) == {"LanguageUnknown": 1}
    assert [(entry["line"], entry["reason"], entry["message"]) for entry in rejected(job)] == [
        (line, "Language", "it is in the language fr, and cleaning.languages is en, de") for line in (25, 26)
    ]
    assert data(job).digest == found.digest


def test_without_a_wish_every_language_is_welcome(job: Job) -> None:
    job.rows = rows(24, *((text, f"{language}!") for language, text in TOLD.items()))
    found = data(job)
    assert (found.counts.train + found.counts.held_out, found.flagged) == (24 + len(TOLD), None)


def test_nothing_in_the_language_is_a_sentence(job: Job) -> None:
    job.rows, job.cleaning = rows(24), Cleaning(languages=["ja"])
    job.split = DatasetSplit(held_out=6)
    refused(
        job.do(job.prepare_run()),
        "TooFewExamples",
        "dataset.split.heldOut is 6, but there are only 0 valid rows (24 left out as Language)",
    )


def test_too_few_in_the_language_says_where_the_others_went(job: Job) -> None:
    job.rows, job.cleaning = rows(10, *[(f"{n} {TOLD['fr']}", "!") for n in range(14)]), Cleaning(languages=["en"])
    job.expect = DatasetExpectations(min_examples=20)
    refused(
        job.do(job.prepare_run()),
        "TooFewExamples",
        "10 rows to train on (24 valid, 0 held out, 14 left out as Language)",
    )


def test_what_was_said_before_is_not_looked_at(job: Job) -> None:
    job.cleaning = Cleaning(languages=["en"])
    chat = [("user", TOLD["fr"]), ("assistant", TOLD["fr"]), ("user", TOLD["en"]), ("assistant", "1")]
    job.rows = [*rows(24), {"messages": [{"role": role, "content": text} for role, text in chat]}]
    assert data(job).left_out is None
