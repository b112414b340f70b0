import os
import sys

# Before anything imports torch or datasets: one thread is fastest on toy models, and no test may reach for the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

from pathlib import Path

import pytest
from hypothesis import settings

# A test of a property may wait for a busy machine, or for the import in its first example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

sys.path.insert(0, str(ROOT / "tests"))
pytest_plugins = ["tiny_models"]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def mirror() -> Path:
    """A local mirror with the real benchmarks."""
    named = os.environ.get("TUNEBOARD_MIRROR")
    folder = Path(named) if named else SHARED / "mirror"
    if not folder.is_dir():
        pytest.skip(f"no mirror of real data: neither TUNEBOARD_MIRROR nor {SHARED.name}/mirror beside the checkout")
    return folder


@pytest.fixture(scope="session")
def stories260k() -> Path:
    """A real pretrained Llama of 260 thousand parameters."""
    folder = SHARED / "models" / "stories260K"
    if not (folder / "config.json").is_file():
        pytest.skip(f"no {SHARED.name}/models/stories260K beside the checkout")
    return folder
