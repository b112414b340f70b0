import base64
import json
import random
import string

import pytest

from tuneboard.tuning.data.secrets import find_secrets

LETTERS = string.ascii_letters
ALNUM = LETTERS + string.digits
BASE32 = string.ascii_uppercase + "234567"


def drawn(alphabet: str, size: int, seed: int = 0) -> str:
    """A made-up secret; it is put together here so that none stands in this file."""
    return "".join(random.Random(seed).choices(alphabet, k=size))


def token(head: dict[str, str]) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (head, {"sub": "12345"})
    ]
    return ".".join([*parts, drawn(ALNUM, 43)])


def key_block(kind: str, newline: str = "\n") -> str:
    lines = [drawn(ALNUM + "+/", 64, seed) for seed in range(4)]
    dashes = "-" * 5
    return newline.join([f"{dashes}BEGIN {kind}PRIVATE KEY{dashes}", *lines, f"{dashes}END {kind}PRIVATE KEY{dashes}"])


SECRETS = [
    ("AWS access key", "AKIA" + drawn(BASE32, 16)),
    ("AWS access key", "ASIA" + drawn(BASE32, 16, 1)),
    ("AWS secret key", "aws_secret_access_key = " + drawn(ALNUM + "/+", 40)),
    ("AWS secret key", '"AWS_SECRET_KEY": "' + drawn(ALNUM + "/+", 40, 2)),
    ("GitHub token", "ghp_" + drawn(ALNUM, 36)),
    ("GitHub token", "github_pat_" + drawn(ALNUM, 22) + "_" + drawn(ALNUM, 59)),
    ("OpenAI key", "sk-" + drawn(ALNUM, 48)),
    ("OpenAI key", "sk-proj-" + drawn(ALNUM + "_-", 100) + "a1B"),
    ("Hugging Face token", "hf_" + drawn(LETTERS, 34)),
    ("Slack token", "xoxb-" + drawn(string.digits, 12) + "-" + drawn(string.digits, 12, 1) + "-" + drawn(ALNUM, 24)),
    ("Slack token", "hooks.slack.com/services/T" + drawn(BASE32, 8) + "/B" + drawn(BASE32, 8) + "/" + drawn(ALNUM, 24)),
    ("Google key", "AIza" + drawn(ALNUM + "_-", 34) + "x"),
    ("private key", key_block("RSA ")),
    ("private key", key_block("OPENSSH ")),
    ("private key", key_block("", "\\n")),
    ("JSON web token", token({"alg": "HS256", "typ": "JWT"})),
    ("e-mail address", "jane.doe+news@mail.acme-tools.co.uk"),
    ("e-mail address", "Mr_X99@gmail.com"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "secret"), SECRETS)
@pytest.mark.parametrize("around", ["{}", "Here it is: {}, keep it.", "export KEY='{}'\nprint(1)", "<{}>"])
def test_a_secret_is_found_wherever_it_stands(kind: str, secret: str, around: str):
    text = around.format(secret)
    found = find_secrets(text)
    assert [one.kind for one in found] == [kind]
    assert around.index("{") <= found[0].position < len(text)


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE stands in every manual",
        "AKIA" + "A" * 16,
        "the AKIAS of Japan and " + drawn(BASE32, 30),
        "sha1 " + drawn("0123456789abcdef", 40) + " and sha256 " + drawn("0123456789abcdef", 64),
        "ghp_" + "x" * 36,
        "sk-" + "your-key-here-please-replace-it",
        "sk-" + drawn(string.ascii_lowercase, 48),
        "ask-" + drawn(ALNUM, 48),
        "hf_hub_download and hf_transfer_enabled",
        "xoxb-your-token",
        "-" * 5 + "BEGIN PRIVATE KEY" + "-" * 5 + " is how such a file starts",
        key_block("").replace("PRIVATE", "PUBLIC"),
        "eyJhbGciOi." + "eyJub25lIjo" + "." + drawn(ALNUM, 43),
        token({"typ": "none"}),
        "user@example.com, root@localhost, a@b, x@test, me@mail.example.org, you@host.invalid",
        "git clone git@github.com:acme/tools.git",
        "icon@2x.png, self@other.value, price @ 3.50, @property, foo@1.2.3",
        "https://user:pw@acme.com/path",
        "C = A@B.T.copy() and then x @ y",
    ],
)
def test_what_only_resembles_a_secret_is_passed_over(text: str):
    assert find_secrets(text) == []


def test_the_secret_itself_is_nowhere_in_what_is_told():
    for _, secret in SECRETS:
        assert secret[8:] not in repr(find_secrets(secret))


def test_several_secrets_come_in_order_of_their_places():
    text = f"a {SECRETS[-1][1]} b {SECRETS[4][1]} c {SECRETS[0][1]}"
    found = find_secrets(text)
    assert [one.kind for one in found] == ["e-mail address", "GitHub token", "AWS access key"]
    assert text[found[0].position :].startswith(SECRETS[-1][1])


def test_random_keys_are_nearly_all_found():
    """The test for randomness must not turn true keys away."""
    found = sum(bool(find_secrets("AKIA" + drawn(BASE32, 16, seed))) for seed in range(2000))
    assert found >= 1998


def test_ordinary_texts_hold_no_secret(mirror):
    import pyarrow.parquet as pq

    for name in ("openai/gsm8k/main/train", "roneneldan/TinyStories/default/train", "teknium/GPTeacher/default/train"):
        texts = [" ".join(map(str, row.values())) for row in pq.read_table(mirror / f"{name}.parquet").to_pylist()]
        assert [found for text in texts for found in find_secrets(text)] == []


def test_long_runs_of_one_character_take_no_time():
    for run in ("a" * 200_000 + "@", "-" * 200_000, "eyJ" + "a" * 200_000, "@." * 100_000, "aws secret " * 20_000):
        find_secrets(run)
    find_secrets("-" * 5 + "BEGIN PRIVATE KEY" + "-" * 5 + "\n" * 200_000)
