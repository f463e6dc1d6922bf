"""What names were resolved to, remembered in the workspace: a pod that is started again must not see a newer branch."""

from __future__ import annotations

import json
from pathlib import Path

from anneal_trainer import files


class Pins:
    """A JSON file of name -> commit. A name is resolved once in the life of a job."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> str | None:
        """What the name was resolved to before, if it was."""
        return self._read().get(name)

    def keep(self, name: str, revision: str) -> None:
        """Remembers it for good."""
        known = self._read()
        if name not in known:
            files.write_json(self._path, {**known, name: revision})

    def _read(self) -> dict[str, str]:
        try:
            known: dict[str, str] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        return known
