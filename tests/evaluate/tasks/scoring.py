import math


def share_of_truth(doc, results):
    """Probability of the true answers among all, as TruthfulQA's mc2 counts it."""
    weights = [math.exp(logprob) for logprob, _ in results]
    return {"acc": sum(w for w, label in zip(weights, doc["labels"], strict=True) if label) / sum(weights)}


def raises(doc, results):
    raise KeyError("no such column")


def no_prompt_for_ice(doc):
    # lm-eval looks at the first document when it loads a task; this one is met later.
    if "ice" in doc["question"]:
        raise ZeroDivisionError("division by zero")
    return doc["question"]


def undefined(scores):
    """A ratio of nothing to nothing, as a task's own aggregation may give."""
    return math.nan
