"""Text that may not be trained on as it stands: keys, personal data, and what cannot be seen."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from tests.trainer.job import Job, prompt_rows
from tests.trainer.test_bad_input import refused

from anneal.api.dataset import Cleaning, DatasetExpectations
from anneal_trainer.prepare import personal, secrets
from anneal_trainer.prepare.cleaning import normalized

#: Made up, and put together here so that no scanner takes this file for a leak.
SECRETS = {
    "an AWS access key": "AKIA" + "Q3EGRTOZ7XWPLM2K",
    "a GitHub token": "ghp_" + "a1B2c3D4e5" * 4,
    "a GitLab token": "glpat-" + "a1B2c3D4e5" * 2,
    "a Slack token": "xoxb-" + "1234567890-abcdefghij",
    "a Stripe key": "sk_live_" + "a1B2c3D4e5" * 2,
    "a Google API key": "AIza" + "a1B2c3D4e5" * 3 + "abcde",
    "an OpenAI API key": "sk-proj-" + "a1B2c3D4e5" * 4,
    "an Anthropic API key": "sk-ant-" + "api03-" + "a1B2c3D4e5" * 4,
    "a Hugging Face token": "hf_" + "a1B2c3D4e5" * 3 + "abcd",
    "a Vincony key": "vncy_" + "a1B2c3D4e5" * 2,
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a URL with a password": "postgres://" + "app:hunter22@db.example/app",
    "a signed token (JWT)": "eyJhbGciOiJIUzI1" + ".eyJzdWIiOiIxMjM0" + ".c2lnbmF0dXJlMTIz",
}


@pytest.mark.parametrize(("what", "secret"), SECRETS.items(), ids=SECRETS)
def test_secrets_are_found_whatever_is_around_them(what: str, secret: str) -> None:
    assert secrets.find(f'export KEY="{secret}"; run') == what
    assert secrets.find(f"({secret}),") == what


@pytest.mark.parametrize(
    "text",
    [
        "ask-me-anything-about-the-long-list-of-things",
        "AKIA" + "IOSFODNN7EXAMPLE",  # the key of AWS's own documentation
        "https://example.com/path:80@home",
        "the sha is 0123456789abcdef0123456789abcdef01234567",
        "sk-short",
        "high_five_everybody",
    ],
)
def test_what_only_looks_like_a_secret_is_none(text: str) -> None:
    assert secrets.find(text) is None


def test_a_row_with_a_secret_is_invalid_and_the_secret_is_nowhere(job: Job) -> None:
    secret = SECRETS["a GitHub token"]
    job.rows = [*prompt_rows(24), {"prompt": "what is the token", "completion": secret}]
    result = job.do(job.prepare_run())
    refused(result, "InvalidRows", "line 25 of pvc://hub/rows.jsonl: message 2 has what looks like a GitHub token")
    job.expect = DatasetExpectations(max_invalid_rows=1)
    job.prepared()
    assert not any(secret.encode() in p.read_bytes() for p in (job.workspace / "data").iterdir())
    assert secret not in result.message
    job.cleaning = Cleaning(secrets="Allow")
    assert job.prepared().dataset.counts.invalid == 0


PERSONAL = {
    "Write to jane.doe+news@mail.example.org.": "Write to [EMAIL].",
    "Call +49 30 901820 or (212) 555-0123 now": "Call [PHONE] or [PHONE] now",
    "Card 4111 1111 1111 1111, not 4111 1111 1111 1112": "Card [CARD], not 4111 1111 1111 1112",
    "IBAN DE89 3704 0044 0532 0130 00 please": "IBAN [IBAN] please",
    "IBAN GB82WEST12345698765432, not GB83WEST12345698765432": "IBAN [IBAN], not GB83WEST12345698765432",
    "2026-11-24 at 10:30, order 1234567890123, 3.14159265": "2026-11-24 at 10:30, order 1234567890123, 3.14159265",
    "a@b is no address, nor is 555": "a@b is no address, nor is 555",
}


@pytest.mark.parametrize(("text", "redacted"), PERSONAL.items())
def test_personal_data_is_found_by_its_shape_and_its_check_digits(text: str, redacted: str) -> None:
    assert personal.redacted(text, personal.find(text)) == redacted


@pytest.mark.parametrize("letter", ["a", "1", "a.", "1 ", "+", "A1", "@", "a@"])
def test_long_runs_of_a_shape_take_no_time(letter: str) -> None:
    text = letter * 200_000
    before = time.process_time()
    personal.find(text)
    secrets.find(text)
    normalized(text)
    assert time.process_time() - before < 3


@pytest.mark.parametrize(
    ("policy", "flagged", "text"),
    [
        ("Allow", None, "mail a.b@c.de"),
        ("Flag", [("PersonalData", 1)], "mail a.b@c.de"),
        ("Redact", [("PersonalData", 1), ("Redacted", 1)], "mail [EMAIL]"),
    ],
)
def test_personal_data_is_left_flagged_or_redacted(job: Job, policy: Any, flagged: Any, text: str) -> None:
    job.rows = [*prompt_rows(24), {"prompt": "mail a.b@c.de", "completion": "Sent"}]
    job.cleaning = Cleaning(personal_data=policy)
    job.split = job.split.model_copy(update={"held_out": 24})
    job.expect = DatasetExpectations(min_examples=1)
    for seed in range(40):  # until the row is among those held out, where its text can be read
        job.split = job.split.model_copy(update={"seed": seed})
        found = job.prepared().dataset.flagged
        held_out = (job.workspace / "data" / "held-out.jsonl").read_text().splitlines()
        prompts = [json.loads(line)["messages"][-1]["content"] for line in held_out]
        if any(p.startswith("mail") for p in prompts):
            break
    assert text in prompts
    assert (found and [(f.reason, f.rows) for f in found]) == flagged


def test_what_cannot_be_seen_is_taken_out(job: Job) -> None:
    assert normalized("a\x00b\x1b[0m\ufeffc\x85\td\r\n") == "ab[0mc\td\r\n"
    job.rows = [*prompt_rows(24), {"prompt": "light\x00 on", "completion": "On"}]
    assert [(f.reason, f.rows) for f in job.prepared().dataset.flagged or ()] == [("Normalized", 1)]
    job.rows[-1]["completion"] = "\x00\x01"
    refused(job.do(job.prepare_run()), "InvalidRows", "the answer in message 2 is empty")
