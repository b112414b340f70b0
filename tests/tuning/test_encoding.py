from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_tokenizer

from tuneboard.engines.tokens import Encoder
from tuneboard.errors import DataError, UsageError
from tuneboard.tuning.encoding import NOT_TRAINED, Encoded, EncodingRules, encode
from tuneboard.tuning.records import Example

CAUSAL = EncodingRules("causal", 64)
#: Turns as ChatML writes them; the second marks what the assistant generates.
PLAIN = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<assistant>{% generation %}{{ m['content'] }}</s>"
    "{% endgeneration %}\n{% else %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHAT = Example(
    "",
    messages=(("user", "Where is it?"), ("assistant", "In the garden."), ("user", "Why?"), ("assistant", "To play.")),
    format="chat",
)


@pytest.fixture(scope="module")
def bos():
    return make_tokenizer("bos")


def trained_text(tokenizer, one: Encoded) -> str:
    return tokenizer.decode(one.labels[one.labels != NOT_TRAINED])


def test_only_the_answer_and_its_end_are_learnt(bos) -> None:
    (one,), report = encode([Example("Once upon a time", " there was a ball", format="completion")], bos, CAUSAL)
    assert one.ids[0] == bos.bos_token_id and one.ids[-1] == bos.eos_token_id
    assert list(one.ids).count(bos.bos_token_id) == list(one.ids).count(bos.eos_token_id) == 1
    assert trained_text(bos, one) == " there was a ball</s>"
    assert (report.examples, report.kept, report.tokens) == (1, 1, len(one.ids))


def test_loss_on_all_learns_everything_but_the_first_token(bos) -> None:
    rules = EncodingRules("causal", 64, loss_on="all")
    (one,), _ = encode([Example("Once upon", " a time", format="completion")], bos, rules)
    assert trained_text(bos, one) == "Once upon a time</s>"
    assert one.labels[0] == NOT_TRAINED


@pytest.mark.parametrize("kind", ["bos", "eos", "spaces"])
@given(
    prompt=st.text("ab .\n", min_size=1, max_size=20).filter(str.strip),
    answer=st.text("ab .\n", min_size=1, max_size=20),
)
@settings(max_examples=40, deadline=None)
def test_tokens_and_answers_are_those_that_evaluation_scores(kind: str, prompt: str, answer: str) -> None:
    tokenizer = TOKENIZERS.setdefault(kind, make_tokenizer(kind))
    (one,), _ = encode([Example(prompt, answer, format="completion")], tokenizer, CAUSAL)
    scored = Encoder(tokenizer, 64).pair(prompt, answer)
    assert list(one.ids[:-1]) == [*scored.tokens[: len(one.ids) - 1 - len(scored.targets)], *scored.targets] or list(
        one.ids[:-1]
    ) == [*scored.tokens, scored.targets[-1]]
    assert list(one.labels[one.labels != NOT_TRAINED]) == [*scored.targets, tokenizer.eos_token_id]


TOKENIZERS: dict[str, object] = {}


def test_a_prompt_that_merges_with_its_answer_is_counted(bos) -> None:
    word = max((token for token in bos.get_vocab() if token.isalpha() and token.isascii()), key=len)
    rows = [Example(word[:1], word[1:], format="completion"), Example("the", " bread", format="completion")]
    _, report = encode(rows, bos, CAUSAL)
    assert report.merged == 1


def test_a_long_prompt_loses_its_beginning_and_a_long_text_is_cut_in_pieces(bos) -> None:
    rules = EncodingRules("causal", 16)
    prompt = Example("one two three four five six seven eight nine ten", " end", format="completion")
    text = Example("one two three four five six seven eight nine ten eleven")
    (cut, *pieces), report = encode([prompt, text], bos, rules)
    whole = encode([prompt, text], bos, EncodingRules("causal", 500))[0]
    assert len(cut.ids) == 16 and list(cut.ids) == list(whole[0].ids[-16:])
    assert trained_text(bos, cut) == " end</s>"
    learnt = np.concatenate([piece.labels[piece.labels != NOT_TRAINED] for piece in pieces])
    assert learnt.tolist() == whole[1].ids[1:].tolist()
    assert (report.truncated, report.split, report.dropped) == (1, 1, 0)
    assert report.lost_tokens == len(whole[0].ids) - 16


def test_a_long_answer_leaves_its_prompt_a_quarter(bos) -> None:
    rules = EncodingRules("causal", 16)
    row = Example(
        "one two three four five six seven", " eight nine ten eleven twelve thirteen fourteen", format="completion"
    )
    (cut,), _ = encode([row], bos, rules)
    assert len(cut.ids) == 16 and int((cut.labels == NOT_TRAINED).sum()) == 4
    assert bos.eos_token_id not in cut.ids


def test_what_is_too_long_is_dropped_where_the_recipe_says_so(bos) -> None:
    rules = EncodingRules("causal", 12, overlong="drop")
    rows = [
        Example("one two three four five six seven eight", " nine", format="completion"),
        Example("a", " b", format="completion"),
    ]
    kept, report = encode(rows, bos, rules)
    assert (len(kept), report.dropped, report.truncated) == (1, 1, 0)


@pytest.mark.parametrize("template", [PLAIN, MARKED])
def test_of_a_chat_the_assistants_turns_are_learnt(template: str) -> None:
    tokenizer = make_tokenizer("bos")
    tokenizer.chat_template = template
    (one,), _ = encode([CHAT], tokenizer, EncodingRules("causal", 128))
    said = trained_text(tokenizer, one)
    assert said.replace("\n", "") == "In the garden.</s>To play.</s>"
    assert list(one.ids).count(tokenizer.bos_token_id) == 1


def test_a_template_that_writes_bos_gets_no_second_one() -> None:
    tokenizer = make_tokenizer("bos")
    tokenizer.chat_template = "<s>" + PLAIN
    (one,), _ = encode([CHAT], tokenizer, EncodingRules("causal", 128))
    assert list(one.ids).count(tokenizer.bos_token_id) == 1


def test_a_turn_that_later_ones_change_is_not_learnt() -> None:
    """As templates do that take thoughts out of all turns but the last."""
    tokenizer = make_tokenizer("bos")
    tokenizer.chat_template = PLAIN.replace(
        "m['content'] }}", "m['content'] if loop.last or m['role'] == 'user' else 'x' }}"
    )
    (one,), _ = encode([CHAT], tokenizer, EncodingRules("causal", 128))
    assert trained_text(tokenizer, one).strip() == "To play.</s>"


def test_a_chat_whose_template_hides_the_assistant_is_refused() -> None:
    tokenizer = make_tokenizer("bos")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    with pytest.raises(UsageError, match="shows nothing of what the assistant says"):
        encode([CHAT], tokenizer, CAUSAL)


def test_a_chat_on_a_model_without_a_template_is_refused(bos) -> None:
    with pytest.raises(UsageError, match="the base model has no chat template; train an instruct model"):
        encode([CHAT], bos, CAUSAL)


def test_labels_become_classes_and_pairs_keep_their_types() -> None:
    tokenizer = make_tokenizer("cls")
    rules = EncodingRules("classification", 32, labels=("no", "yes"))
    rows = [
        Example("a garden", "yes", format="label"),
        Example("a garden", "no", format="label", text_pair="a ball"),
    ]
    (alone, pair), _ = encode(rows, tokenizer, rules)
    assert (alone.labels.tolist(), pair.labels.tolist()) == ([1], [0])
    assert alone.ids[0] == tokenizer.cls_token_id and alone.ids[-1] == tokenizer.sep_token_id
    if pair.types is not None:
        assert pair.types.tolist() == sorted(pair.types.tolist())
    with pytest.raises(DataError, match="row 7 has the label 'maybe', which no training row has; labels: no, yes"):
        encode([Example("x", "maybe", format="label", place="row 7")], tokenizer, rules)


def test_a_seq2seq_example_is_an_input_and_an_answer_with_their_ends() -> None:
    tokenizer = make_tokenizer("t5")
    rules = EncodingRules("seq2seq", 8)
    rows = [Example("to play in the garden with her red ball", " A ball", format="completion")]
    (one,), report = encode(rows, tokenizer, rules)
    assert one.ids[-1] == one.labels[-1] == tokenizer.eos_token_id
    assert len(one.ids) == 8 and report.truncated == 1
    assert tokenizer.decode(one.labels, skip_special_tokens=True) == "A ball"
    with pytest.raises(DataError, match="has no answer"):
        encode([Example("x")], tokenizer, rules)


def test_a_prompt_that_is_answered_with_nothing_is_not_learnt(bos) -> None:
    rows = [Example("Once upon a time", "", format="completion"), Example("a", " b", format="completion")]
    (nothing, one), _ = encode(rows, bos, CAUSAL)
    assert (trained_text(bos, nothing), trained_text(bos, one)) == ("</s>", " b</s>")
