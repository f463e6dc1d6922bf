"""The image that the cluster's own tests run, made without a builder."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_cluster import binary, oci
from toolbox import TOOLBOX


@pytest.fixture(scope="session")
def toolbox_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toolbox")
    oci.write_program_image(folder, TOOLBOX, binary.build().toolbox, ["pause"])
    return folder
