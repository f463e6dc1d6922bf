"""The real lm-eval on this machine, without an image: installed once in the cache from the image's own pins.

It is not in the development environment, so what tests want of it runs in a process of its environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.hosts import REPOSITORY, prepared, run

SOURCES = REPOSITORY / "images/lm-eval"
BUILD, PINS = SOURCES / "build.txt", SOURCES / "requirements.txt"
DRIVER = Path(__file__).with_name("lm_eval_driver.py")


def prepare() -> Path:
    """Python of the environment: 740 MB, less than a minute the first time; installed as the image does it."""
    made_of = "\n".join([BUILD.read_text(), PINS.read_text(), sys.version, sys.prefix])
    return prepared("lm-eval", made_of, _install) / "env/bin/python"


def _install(root: Path) -> None:
    environment = root / "env"
    run("uv", "venv", "--quiet", "--python", sys.executable, str(environment))
    install = ["uv", "pip", "install", "--quiet", "--require-hashes", "--python", str(environment / "bin/python")]
    run(*install, "-r", str(BUILD))
    run(*install, "-r", str(PINS), "--no-build-isolation", "--compile-bytecode")


@dataclass(frozen=True)
class LmEval:
    """The environment, with a folder that is the home and the working directory of its processes."""

    python: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """As in the image; and nothing is fetched."""
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        python = {"PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"}
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), **python, **offline}

    def plugin(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The program, started as the image starts it."""
        return self._run(["-m", "anneal_lm_eval", *arguments], "", environment)

    def drive(self, jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What came of each job of `lm_eval_driver`, all done in one process: each would import for seconds."""
        done = self._run([str(DRIVER)], json.dumps(jobs), {})
        assert done.returncode == 0, done.stderr[-4000:]
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _run(
        self, arguments: Sequence[str], stdin: str, environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python), *arguments],
            env={**self.environment, **environment},
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )
