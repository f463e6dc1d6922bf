"""Rules of the repository itself."""

from __future__ import annotations

import re
import subprocess

from tests.conftest import REPOSITORY


def test_operator_is_no_package() -> None:
    """`operator/__init__.py` would shadow the standard library's operator module wherever the root is on the path."""
    assert not (REPOSITORY / "operator" / "__init__.py").exists()


def test_lock_files_name_no_host() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.txt"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split():
        assert not re.search(r"https?://", (REPOSITORY / name).read_text()), name
