"""Tools in chats: kept in whatever way they are written, learned with their calls, refused where a template drops them.

The templates are those that the families are published with, as TRL carries them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny_model import write_tokenizer
from tests.trainer.job import Job
from tests.trainer.test_bad_input import refused
from tests.trainer.test_data_files import as_parquet

from anneal.api.dataset import Cleaning, Columns, DatasetSplit
from anneal_trainer.prepare.chat import Call, Message, RowError
from anneal_trainer.prepare.formats import to_messages
from anneal_trainer.prepare.template import ChatTemplate, load_tokenizer
from anneal_trainer.prepare.tools import tools_in
from anneal_trainer.prepare.validate import check
from anneal_trainer.rows import read
from anneal_trainer.workspace import Workspace

LAMP = {
    "type": "function",
    "function": {
        "name": "lamp",
        "description": "Switches the light.",
        "parameters": {"type": "object", "properties": {"state": {"type": "string"}}, "required": ["state"]},
    },
}
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "lamp", "arguments": '{"state": "on", "dim": null}'},
}
ARGUMENTS = '{"state":"on","dim":null}'


def published(family: str) -> str:
    return files("trl").joinpath("chat_templates", f"{family}.jinja").read_text(encoding="utf-8")


def row(prompt: str = "light on", answer: str | None = "It is on.", **more: Any) -> dict[str, Any]:
    """A conversation with one call; without an answer it ends with that."""
    messages = [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "lamp", "content": "done"},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": messages if answer else messages[:2], "tools": [LAMP], **more}


CHAT = [
    Message("user", "light on"),
    Message("assistant", "", (Call("lamp", ARGUMENTS, "abcdefghi"),)),
    Message("tool", "done", call_id="abcdefghi", name="lamp"),
    Message("assistant", "It is on."),
]


def test_every_way_to_write_tools_down_is_one_conversation() -> None:
    bare = {"name": "lamp", "arguments": {"state": "on", "dim": None}}
    written = row()
    as_text = {**written, "tools": json.dumps([LAMP["function"]]), "messages": json.dumps(written["messages"])}
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "light on"},
            {"from": "function_call", "value": json.dumps(bare)},
            {"from": "observation", "value": "done"},
            {"from": "gpt", "value": "It is on."},
        ],
        "tools": json.dumps([LAMP]),
    }
    assert to_messages(written, "Auto") == to_messages(as_text, "Auto") == CHAT
    without_ids = [m.to_json() for m in to_messages(sharegpt, "Auto")]
    expected = [m.to_json() for m in CHAT]
    del expected[1]["tool_calls"][0]["id"], expected[2]["tool_call_id"], expected[2]["name"]
    assert without_ids == expected
    assert tools_in(written) == tools_in(as_text) == tools_in(sharegpt)
    assert json.loads(tools_in(written)) == [LAMP]
    for messages in (CHAT, to_messages(sharegpt, "Auto")):
        check(messages, tools_in(written))


ANSWERS = {
    "qwen2_5": '<tool_call>\n{"name": "lamp", "arguments": {"state": "on", "dim": null}}\n</tool_call><|im_end|>',
    "llama3_1": '{"name": "lamp", "parameters": {"state": "on", "dim": null}}<|eot_id|>',
    "qwen3": '<tool_call>\n{"name": "lamp", "arguments": {"state": "on", "dim": null}}\n</tool_call><|im_end|>',
    "gptoss": ' to=functions.lamp<|channel|>commentary json<|message|>{"state": "on", "dim": null}<|call|>',
}


@pytest.mark.parametrize("family", ANSWERS)
def test_the_call_and_the_answer_are_learned_and_what_the_tool_says_is_not(tmp_path: Path, family: str) -> None:
    write_tokenizer(tmp_path)
    words = load_tokenizer(tmp_path)
    words.bos_token = "<s>"
    stops = ["<|im_end|>", "<|eot_id|>", "<|call|>", "<|return|>"]
    words.add_special_tokens({"extra_special_tokens": stops})
    words.chat_template = published(family)
    template = ChatTemplate(words, words.convert_tokens_to_ids(stops))
    rendered = template.render(CHAT, json.dumps([LAMP]))
    stretches = learned_stretches(words, rendered.tokens, rendered.labelled)
    assert stretches[0] == ANSWERS[family]
    assert "It is on.<|" in stretches[1]
    assert len(stretches) == 2
    sent = words.apply_chat_template(
        [m.to_json() for m in CHAT[:1]], tools=[LAMP], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert rendered.tokens[: len(sent)] == sent, "what a server sends before the call"
    assert "Switches the light." in words.decode(sent)


def learned_stretches(words: Any, tokens: list[int], labelled: list[bool]) -> list[str]:
    stretches: list[list[int]] = []
    for before, token, is_learned in zip([False, *labelled], tokens, labelled, strict=False):
        if is_learned:
            if not before:
                stretches.append([])
            stretches[-1].append(token)
    return [words.decode(stretch) for stretch in stretches]


@pytest.mark.parametrize(
    ("family", "sentence"),
    [
        (
            "phi3",
            "it offers tools; the chat template of the model has no place for tools, tool calls, what tools answer",
        ),
        ("llama3", "it offers tools; the chat template of the model has no place for tools, tool calls"),
        ("lfm2", "it offers tools; the chat template of the model has no place for tool calls"),
        ("gemma3", "it offers tools; the chat template refuses it: Conversation roles must alternate"),
        ("deepseekv3", "it offers tools; the chat template cannot write it: can only concatenate str"),
        ("nemotron_3_nano", "the chat template changes the tool call in message 2 once there is more"),
    ],
)
def test_a_template_that_drops_any_part_of_it_refuses(tmp_path: Path, family: str, sentence: str) -> None:
    write_tokenizer(tmp_path)
    words = load_tokenizer(tmp_path)
    words.bos_token, words.chat_template = "<s>", published(family)
    with pytest.raises(RowError, match=sentence.replace("(", r"\(")):
        ChatTemplate(words).render(CHAT, json.dumps([LAMP]))


@pytest.fixture
def tool_job(base: Path, tmp_path: Path) -> Job:
    """A job on a base whose template knows tools: 18 rows that end in text, six that end in a call."""
    taught = tmp_path / "taught"
    shutil.copytree(base, taught)
    (taught / "chat_template.jinja").write_text(published("qwen2_5"))
    config = json.loads((taught / "config.json").read_text())
    (taught / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    rows = [
        row(f"{n}: light {'on' if n % 2 else 'off'}", "Done." if n % 4 else None, topic=str(n % 2)) for n in range(24)
    ]
    job = Job(taught, tmp_path, rows=rows, split=DatasetSplit(held_out=6))
    job.training = job.training.model_copy(update={"max_length": 1024})
    return job


def held_out(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.workspace / "data" / "held-out.jsonl").read_text().splitlines()]


def test_a_job_trains_on_calls_and_holds_out_what_ends_in_text(tool_job: Job) -> None:
    status = tool_job.prepared().dataset
    assert (status.counts.train, status.counts.held_out) == (18, 6)
    for line in held_out(tool_job):
        assert line["tools"] == [LAMP]
        assert line["reference"] == "Done."
        assert [m["role"] for m in line["messages"]] == ["user", "assistant", "tool"]
        assert line["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"state": "on", "dim": None}
    again = tool_job.prepared().dataset
    assert (again.digest, again.test_digest) == (status.digest, status.test_digest)


def test_the_tools_and_the_call_tell_rows_apart(tool_job: Job) -> None:
    other = json.loads(json.dumps(row()).replace("Switches", "Dims"))
    called = json.loads(json.dumps(row()).replace('\\"on\\"', '\\"off\\"'))
    tool_job.rows = [*tool_job.rows, row(), other, called, row()]
    left_out = tool_job.prepared().dataset.left_out
    assert left_out is not None
    assert [(count.reason, count.rows) for count in left_out] == [("Duplicate", 1)]


def test_rows_that_end_in_calls_cannot_be_held_out(tool_job: Job) -> None:
    tool_job.split = DatasetSplit(held_out=20)
    refused(
        tool_job.do(tool_job.prepare_run()),
        "TooFewExamples",
        "dataset.split.heldOut is 20, but only 18 rows have an answer that is text",
    )
    tool_job.split, tool_job.held_out_rows = DatasetSplit(), [row("dim", None)]
    refused(
        tool_job.do(tool_job.prepare_run()),
        "InvalidRows",
        "line 1 of pvc://hub/held-out.jsonl: its answer is the call of a tool, which no metric compares",
    )


def test_a_model_that_knows_no_tools_refuses_rows_that_have_some(job: Job) -> None:
    job.rows, job.training = [row() for _ in range(24)], job.training.model_copy(update={"max_length": 1024})
    refused(
        job.do(job.prepare_run()), "InvalidRows", "line 1 of pvc://hub/rows.jsonl: it offers tools; the chat template"
    )


def test_tools_of_a_table_are_told_by_their_column(tool_job: Job) -> None:
    expected = tool_job.prepared().dataset.digest
    table = [{"chat": json.dumps(r["messages"]), "offered": json.dumps(r["tools"])} for r in tool_job.rows]
    tool_job.content, tool_job.columns = as_parquet(table), Columns(messages="chat", tools="offered")
    assert tool_job.prepared().dataset.digest == expected
    tool_job.columns = Columns(messages="chat")
    refused(
        tool_job.do(tool_job.prepare_run()), "InvalidRows", 'message 2 calls "lamp", which is not among the "tools"'
    )


def turns(*messages: Mapping[str, Any], tools: Any = (LAMP,)) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "light on"}, *messages], "tools": list(tools)}


SAYS = {"role": "assistant", "content": "Done."}
CALLS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
TOLD = {"role": "tool", "content": "done", "tool_call_id": "abcdefghi"}
BAD = {
    "a call without its answer": (turns(CALLS, SAYS), "message 3 is from assistant, but the call of lamp is open"),
    "an answer to nothing": (turns(TOLD, SAYS), "message 2 is from a tool, but nothing was called"),
    "an answer twice": (turns(CALLS, TOLD, TOLD, SAYS), "message 4 is from a tool, but nothing was called"),
    "an answer to another call": (
        turns(CALLS, {**TOLD, "tool_call_id": "x"}, SAYS),
        'message 3 answers the call "x", which was not made or has its answer',
    ),
    "a tool that is not offered": (
        turns(CALLS, TOLD, SAYS, tools=[{"name": "fan"}]),
        'message 2 calls "lamp", which is not among the "tools" of the row',
    ),
    "a user who calls": (turns({**CALLS, "role": "user"}, SAYS), "message 2 is from user and calls a tool"),
    "the last word of a tool": (turns(CALLS, TOLD), "no answer: the last message is from tool"),
    "the old functions": ({**turns(SAYS), "functions": [{}]}, '"functions" is no longer in use'),
    "the old function call": (
        turns({**SAYS, "function_call": {"name": "lamp"}}),
        'message 2 has "function_call", which is no longer in use',
    ),
    "tools that are no list": ({**turns(SAYS), "tools": "{}"}, '"tools" is not a list'),
    "tools that are broken": ({**turns(SAYS), "tools": "["}, 'broken JSON in "tools"'),
    "a tool without a name": (
        turns(SAYS, tools=[{"type": "function"}]),
        'tool 1 of "tools" is not an object with a name',
    ),
    "another kind of tool": (
        turns(SAYS, tools=[{"type": "web_search", "function": {"name": "x"}}]),
        "of the type 'web_search': only functions can be learned",
    ),
    "arguments that are no object": (
        turns({**CALLS, "tool_calls": [{"name": "lamp", "arguments": "[1]"}]}, TOLD, SAYS),
        "the arguments of a tool call in message 2 are not an object",
    ),
    "arguments that are broken": (
        turns({**CALLS, "tool_calls": [{"name": "lamp", "arguments": "{state:"}]}, TOLD, SAYS),
        "broken JSON in the arguments of a tool call in message 2",
    ),
    "calls that are no list": (
        turns({**CALLS, "tool_calls": {"name": "lamp"}}),
        "the tool_calls of message 2 are not a list",
    ),
    "a control token in a call": (
        json.loads(json.dumps(row()).replace('\\"on\\"', '\\"<|end|>\\"')),
        "message 2 contains the control token '<|end|>'",
    ),
    "a secret in a call": (
        json.loads(json.dumps(row()).replace('\\"on\\"', '\\"AKIAIOSFODNN7EXAMPLX\\"')),
        "message 2 has what looks like",
    ),
    "a bomb in a call": (
        turns({**CALLS, "tool_calls": [{"name": "lamp", "arguments": '{"a":' * 100_000}]}),
        "broken JSON in the arguments of a tool call in message 2",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_broken_use_of_tools_is_said(tool_job: Job, bad: tuple[dict[str, Any], str]) -> None:
    tool_job.rows[16] = bad[0]
    result = tool_job.do(tool_job.prepare_run())
    refused(result, "InvalidRows", "1 of 24 rows is invalid (limit 0): line 17 of pvc://hub/rows.jsonl: ")
    assert bad[1] in result.message


def test_personal_data_in_calls_is_redacted(tool_job: Job) -> None:
    text = json.dumps(row("call me")).replace('\\"on\\"', '\\"me@example.org\\", \\"card\\": 4111111111111111')
    tool_job.rows[1], tool_job.cleaning = json.loads(text), Cleaning(personal_data="Redact")
    prepared = tool_job.prepared()
    flagged = prepared.dataset.flagged
    assert flagged is not None
    assert {count.reason: count.rows for count in flagged} == {"PersonalData": 1, "Redacted": 1}
    trained = read(Workspace(tool_job.workspace).train, prepared.dataset.digest)
    texts = load_tokenizer(tool_job.base).decode(trained.tokens) + json.dumps(held_out(tool_job))
    assert '"[EMAIL]", "card": "[CARD]"' in texts
    assert "example.org" not in texts
