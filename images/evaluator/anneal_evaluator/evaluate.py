"""One evaluation from its run document to its result: the order of the work, and nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import aiohttp
from tritonclient.http.aio import InferenceServerClient

from anneal.api.artifacts import digest_of_file
from anneal.api.runs import GUARD, JUDGE, EvaluateRun, RunResult
from anneal.api.verdicts import baseline_of, claims_of
from anneal_evaluator.confusion import confusions
from anneal_evaluator.costs import costs, queries_at_full_load
from anneal_evaluator.decide import judge, judge_categories, refuse_too_many_errors
from anneal_evaluator.epochs import key_of_each, means_of_rows, row_of_each
from anneal_evaluator.errors import INVALID_RUN, mistake
from anneal_evaluator.held_out import HeldOutRow, groups_of, read_held_out
from anneal_evaluator.judging import judge_answers
from anneal_evaluator.judging.guarding import guard_answers
from anneal_evaluator.judging.labels import Label, read_labels
from anneal_evaluator.judging.telling import guard_data, guard_document, judge_data, judge_document
from anneal_evaluator.keys import check_keys, key_of
from anneal_evaluator.metrics.scorer import Scorer
from anneal_evaluator.origin import origin
from anneal_evaluator.page import page
from anneal_evaluator.plugins import plugin_scores, write_items
from anneal_evaluator.replay import replay_answers
from anneal_evaluator.report import categories, data, document, gate_sentence, write_report
from anneal_evaluator.respond import check_prompts, questions
from anneal_evaluator.reuse import reuse_answers
from anneal_evaluator.score import Answers, score, scorers_of, write_scores
from anneal_evaluator.taken import Taken
from anneal_evaluator.triton import TritonEndpoint
from anneal_evaluator.vllm import VLLMEndpoint
from anneal_hosted.answers import AnswerFile, write_atomically
from anneal_hosted.asking import PATIENCE_SECONDS, Interview, Question, ask_all, check_snapshots, patiently
from anneal_hosted.endpoints import hosted_endpoint
from anneal_hosted.endpoints.endpoint import Endpoint
from anneal_hosted.ledger import Ledger
from anneal_hosted.progress import Progress

SCORES_FILE = "scores.jsonl"
PAGE_FILE = "report.html"
LEDGER_FILE = "spending.jsonl"
BUDGET_ADVICE = (
    "Nothing is judged. Answers are kept: a new Evaluation of the same FineTuneJob with a larger budget"
    " (spec.budget.cost) pays only for what is missing."
)


@dataclass(frozen=True)
class Answered:
    """Everything that was said."""

    rows: list[HeldOutRow]
    each: list[HeldOutRow]
    """The row of each answer."""
    scorers: list[Scorer]
    labels: list[Label]
    """What people say of answers, to hold the judge against."""
    server: str
    """Name and version of the server."""
    files: Mapping[str, AnswerFile]
    keys: Mapping[str, list[str]]
    """Of each model's answers, in the order of the rows and, within a row, of its epochs."""
    answers: Answers


def respond(run: EvaluateRun, patience_seconds: float = PATIENCE_SECONDS) -> RunResult:
    """Asks, and hands the answers to the plugins, which run after this. Raises EvaluationError, OSError."""
    found = _answered(run, AnswerFile.has, patience_seconds)
    write_items(run, found.each, found.answers)
    said = f"{len(found.rows)} rows are answered by each of {len(run.models)} models."
    return RunResult(role="evaluate", outcome="Succeeded", reason="Answered", message=said)


def evaluate(run: EvaluateRun, patience_seconds: float = PATIENCE_SECONDS) -> RunResult:
    """Judges, and leaves answers, scores and report in the report's directory. Raises EvaluationError, OSError."""
    has_plugins = any(metric.plugin is not None for metric in run.metrics)
    # What plugins have scored is not asked again, not even what took too long.
    found = _answered(run, AnswerFile.was_asked if has_plugins else AnswerFile.has, patience_seconds)
    rows, each, scorers, server, files = found.rows, found.each, found.scorers, found.server, found.files
    answers, directory = found.answers, Path(run.report.path)
    given = plugin_scores(run, each, answers)

    # What was spent so far is read anew: a ledger lives as long as one event loop.
    guarded = guard_answers(run, each, answers, _ledger(run, directory), patience_seconds)
    ledger = _ledger(run, directory)
    judgements = judge_answers(run, each, answers, ledger, patience_seconds, found.labels)
    judged = {**(guarded.scores if guarded else {}), **(judgements.scores if judgements else {})}
    scores = means_of_rows(run, score(run, scorers, each, answers, {**given, **judged}))
    groups = groups_of(rows)
    taken = Taken.of(run, answers, groups)
    judgement = judge(run, scorers, scores, groups, taken)
    by_category = judge_categories(run, scorers, scores, groups, [row.category for row in rows])
    write_scores(directory / SCORES_FILE, run, rows, scores)
    for model in run.models:
        files[model].compact(found.keys[model])
    written = [directory / SCORES_FILE, *(files[model].path for model in run.models)]
    written += [by.file for by in (judgements, guarded) if by is not None]
    spent = {model: ledger.spent(model) for model in (*run.models, JUDGE, GUARD)}
    report = document(run, answers, judgement, server, spent, {path.name: digest_of_file(path) for path in written})
    report["judge"] = judge_document(run, judgements, spent[JUDGE])
    report["guard"] = guard_document(run, guarded, spent[GUARD])
    report["training"], report["costs"] = origin(run), costs(run, answers, taken, spent)
    report["confusion"] = confusions(run, scorers, each, answers)
    report["categories"] = categories(run, by_category)
    write_atomically(directory / PAGE_FILE, page(run, report, rows, answers, scores).encode())
    digest = write_report(directory, report)
    return RunResult(
        role="evaluate",
        outcome="Succeeded",
        reason="Judged",
        message=f"{judgement.verdict}: " + " ".join(gate_sentence(run, decision) for decision in judgement.gates),
        evaluate=data(run, answers, judgement, spent, digest, queries_at_full_load(run, taken)).model_copy(
            update=dict(zip(("judge", "judged"), judge_data(run, judgements, spent[JUDGE]), strict=True))
            | dict(zip(("guard", "hazards"), guard_data(run, guarded, spent[GUARD]), strict=True))
        ),
    )


def _answered(run: EvaluateRun, is_settled: Callable[[AnswerFile, str], bool], patience_seconds: float) -> Answered:
    """Checks the run, asks what is not settled, and refuses answers that cannot be judged by."""
    check_names(run)
    rows = read_held_out(run.held_out, run.held_out_digest)
    scorers = scorers_of(run.metrics, rows)
    labels = read_labels(run)
    check_keys(run)
    directory = Path(run.report.path)
    directory.mkdir(parents=True, exist_ok=True)
    files = {model: AnswerFile(directory / f"responses-{model}.jsonl") for model in run.models}
    server, asked = asyncio.run(_interview(run, rows, files, is_settled, patience_seconds))
    keys = {
        model: key_of_each(run, k, [q.key for q in asked if q.model == model]) for k, model in enumerate(run.models)
    }
    answers = {model: [files[model][key] for key in keys[model]] for model in run.models}
    each = row_of_each(run, rows)
    refuse_too_many_errors(run, answers, each)
    check_prompts(run, asked, files)
    check_snapshots(asked, files)
    return Answered(rows, each, scorers, labels, server, files, keys, answers)


def _ledger(run: EvaluateRun, directory: Path) -> Ledger:
    return Ledger(directory / LEDGER_FILE, Decimal(run.budget.cost) if run.budget else None, BUDGET_ADVICE)


async def _interview(
    run: EvaluateRun,
    rows: list[HeldOutRow],
    files: Mapping[str, AnswerFile],
    is_settled: Callable[[AnswerFile, str], bool],
    patience_seconds: float,
) -> tuple[str, list[Question]]:
    """Asks what is not settled yet. Returns the server's name and version, and all questions."""
    ledger = _ledger(run, Path(run.report.path))
    async with _endpoints(run) as endpoints:
        ended = asyncio.Event()
        versions = {
            model: await patiently(endpoint.version, endpoint, patience_seconds, ended)
            for model, endpoint in endpoints.items()
        }
        asked = questions(run, rows, versions)
        replay_answers(run, asked, files)
        reuse_answers(Path(run.report.path), [q for q in asked if q.model not in run.answers], files)
        stored = {(q.model, q.key): q.cost(answer) for q in asked if (answer := files[q.model].get(q.key))}
        ledger.settle_stored(stored)
        waiting = [q for q in asked if q.model not in run.answers and not is_settled(files[q.model], q.key)]
        progress = Progress(run.reporting, len(asked) - len(waiting), len(asked))
        await ask_all(Interview(run.generation, endpoints, files, ledger, progress, patience_seconds, ended), waiting)
    return versions[run.models[0]], asked


@asynccontextmanager
async def _endpoints(run: EvaluateRun) -> AsyncIterator[dict[str, Endpoint]]:
    """Who answers for each model: the server beside this container for those that are ours, else somebody's API."""
    generation = run.generation
    connections = aiohttp.TCPConnector(limit=0)
    async with (
        InferenceServerClient(
            run.server_url, conn_limit=generation.concurrency, conn_timeout=float(2 * generation.timeout_seconds)
        ) as client,
        aiohttp.ClientSession(connector=connections, timeout=aiohttp.ClientTimeout(total=None)) as session,
    ):
        served: Endpoint = TritonEndpoint(client, run.server_url)
        if run.runtime == "vllm":
            served = VLLMEndpoint(session, run.server_url, run.generation.temperature)
        endpoints = dict.fromkeys(run.models, served)
        for name, baseline in zip(run.models[1:], run.baselines, strict=True):
            if baseline.hosted is not None:
                key = key_of(baseline.name, baseline.hosted, Path(run.keys))
                endpoints[name] = hosted_endpoint(baseline.name, baseline.hosted, key, session)
        yield endpoints


def check_names(run: EvaluateRun) -> None:
    """Raises EvaluationError unless models, baselines, metrics and gates fit together."""
    if len(run.models) != 1 + len(run.baselines):
        raise mistake(INVALID_RUN, f"{len(run.models)} models were named for {len(run.baselines)} baselines.")
    metrics, baselines = {m.name for m in run.metrics}, {b.name for b in run.baselines}
    for gate in itertools.chain.from_iterable(map(claims_of, run.gates)):
        if gate.metric is not None and gate.metric not in metrics:
            raise mistake(INVALID_RUN, f"A gate names the metric {gate.metric}, which spec.metrics does not have.")
        if (name := baseline_of(gate)) is not None and name not in baselines:
            raise mistake(INVALID_RUN, f"A gate names the baseline {name}, which spec.baselines does not have.")
