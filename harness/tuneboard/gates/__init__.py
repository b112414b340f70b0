"""May it ship? A comparison and a policy give a verdict.

    records      Policy, Rule, Verdict, RuleVerdict
    policy       ``load_policy(path) -> Policy``: YAML, with all problems at once
    judging      ``judge(comparison, policy) -> Verdict``
    sequential   ``SequentialGate``: asks for samples batch by batch and stops once every rule is decided

    selecting, scales, checking    which tasks a rule is on; what is wrong with a policy
    rules, costs, wording          what a rule finds; how that is said
    streams, tracking              what a sequential gate was fed, and what follows from it

Pure: no database, no engine, no torch.
"""

from tuneboard.gates.judging import judge
from tuneboard.gates.policy import PolicyInfo, find_policy, list_policies, load_policy
from tuneboard.gates.records import (
    EXIT_CODES,
    EvaluatePlan,
    Known,
    Outcome,
    Policy,
    Rule,
    RuleVerdict,
    Stop,
    Verdict,
)
from tuneboard.gates.sequential import Batch, Item, SequentialGate, Stream
from tuneboard.records import Cost

__all__ = [
    "EXIT_CODES",
    "Batch",
    "Cost",
    "EvaluatePlan",
    "Item",
    "Known",
    "Outcome",
    "Policy",
    "PolicyInfo",
    "Rule",
    "RuleVerdict",
    "SequentialGate",
    "Stop",
    "Stream",
    "Verdict",
    "find_policy",
    "judge",
    "list_policies",
    "load_policy",
]
