"""Fills a folder with what the demo starts from, as a hub of models and data sets would hold it.

Each part appears whole or not at all (written aside, then renamed), so a Job that was killed half way can run again.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from anneal_demo.base_model import write_model
from anneal_demo.sentences import SentenceError, chat_rows

MODEL = "smollm2-135m-instruct"
DATA = "intents.jsonl"


def fill(folder: Path, rows: int, seed: int) -> int:
    """Write what is missing or different. Returns the exit code."""
    try:
        text = "".join(f"{row}\n" for row in chat_rows(rows, seed))
        folder.mkdir(parents=True, exist_ok=True)
        print(_write_data(folder / DATA, text), flush=True)
        print(_write_model(folder / MODEL), flush=True)
    except (OSError, SentenceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _write_data(file: Path, text: str) -> str:
    if file.exists() and file.read_text() == text:
        return f"{file}: there already"
    aside = file.with_suffix(".partial")
    aside.write_text(text)
    aside.replace(file)
    return f"{file}: {text.count(chr(10))} chats"


def _write_model(folder: Path) -> str:
    if folder.exists():
        return f"{folder}: there already"
    aside = folder.with_suffix(".partial")
    shutil.rmtree(aside, ignore_errors=True)
    write_model(aside)
    files = list(aside.iterdir())
    for file in files:
        file.chmod(0o644)  # safetensors are written for their owner alone, but other users' pods read the hub
    size = sum(file.stat().st_size for file in files)
    aside.replace(folder)
    return f"{folder}: {size / 1e6:.0f} MB"
