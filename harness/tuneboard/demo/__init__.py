"""A small model and adapters of it, made on the spot, for ``tuneboard demo``.

    texts       what there is to learn: the train splits of the demo's tasks, as lm-eval writes them
    training    tokenizer, base model and LoRA adapters; some seconds each, seeded
    keeping     the finished folders: made once, then kept

torch is imported only when something has to be made.
"""

from tuneboard.demo.keeping import DemoModels, demo_models
from tuneboard.demo.settings import AdapterSettings, TinySettings

__all__ = ["AdapterSettings", "DemoModels", "TinySettings", "demo_models"]
