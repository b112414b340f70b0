from pathlib import Path

import pytest

from tuneboard.demo import AdapterSettings, DemoModels, TinySettings, demo_models

#: Real training, but only a taste of it.
FAST = TinySettings(
    hidden_size=64,
    layers=2,
    steps=4,
    batch=2,
    block=64,
    adapters=(
        ("facts", AdapterSettings(("demo_knowledge",), rank=4, steps=2)),
        ("maths", AdapterSettings(("demo_math",), rank=2, steps=2)),
    ),
)


@pytest.fixture(scope="session")
def fast() -> TinySettings:
    return FAST


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the models of ``fast``."""
    folder = tmp_path_factory.mktemp("demo")
    demo_models(folder, lambda line: None, FAST)
    return folder


@pytest.fixture(scope="session")
def models(kept: Path) -> DemoModels:
    return demo_models(kept, lambda line: None, FAST)
