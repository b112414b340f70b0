from pathlib import Path
from typing import Any

import pytest
from tiny_workshop import Ear, Workshop, make_workshop


@pytest.fixture
def workshop(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A folder to tune in, which is also the working folder."""
    monkeypatch.chdir(tmp_path)
    return make_workshop(tmp_path, tiny_model)


@pytest.fixture
def make_ear() -> type[Ear]:
    return Ear
