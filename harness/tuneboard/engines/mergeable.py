"""Which adapters can be merged into the weights of their base, and how much that may move a log-probability."""

from __future__ import annotations

#: peft's types that change weights by something that can be added to or multiplied into them.
MERGEABLE = ("LORA", "IA3", "ADALORA", "LOHA", "LOKR", "OFT", "BOFT", "VERA", "FOURIERFT", "HRA", "LN_TUNING")
#: Largest difference of a log-probability that rounding explains, by the data type of the merged weights.
ROUNDING = {"float32": 1e-3, "float16": 3e-2, "bfloat16": 0.2}
