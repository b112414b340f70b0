"""Finds keys, tokens and e-mail addresses in texts, and tells their kind and place but never what they are.

A rule is as narrow as the issuer's format allows: the fixed prefix, the alphabet and the length. What has the form of a
key but is plainly none is passed over: placeholders (few different characters, or the word EXAMPLE), a JWT whose head
is no JSON, addresses in the domains that are reserved for examples (RFC 2606).
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Secret:
    """Where something stands that should not be learned."""

    kind: str
    position: int
    """Characters before it."""


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: str
    marks: tuple[str, ...]
    """Texts without any of these are not searched: 40 times faster on ordinary text."""
    pattern: re.Pattern[str]
    """Its group ``secret`` is what must look random, where it has one."""
    holds: Callable[[str], bool]


def find_secrets(text: str) -> list[Secret]:
    """Return what looks like a secret, in order of position.

    ================== =========================================================================================
    AWS access key     ``AKIA`` or ``ASIA`` and 16 of A-Z, 2-7, standing alone
    AWS secret key     40 of base64 that are set to a name with ``aws`` and ``secret`` in it
    GitHub token       ``ghp_``, ``gho_``, ``ghu_``, ``ghs_``, ``ghr_`` and 36 or more letters and digits, or
                       ``github_pat_`` with 22 and, after ``_``, 59
    OpenAI key         ``sk-`` and 48 letters and digits, or ``sk-proj-``, ``sk-svcacct-``, ``sk-admin-`` and 40 or
                       more; both with capitals, small letters and digits
    Hugging Face token ``hf_`` and 34 to 40 letters and digits
    Slack token        ``xoxb-``, ``xoxp-`` and kin with a number of 10 or more digits and a tail of 20 or more, or a
                       webhook address with its three parts
    Google key         ``AIza`` and 35 of base64url, or ``GOCSPX-`` and 28
    private key        ``-----BEGIN ... PRIVATE KEY-----`` and at least 40 of base64 after it
    JSON web token     three parts of base64url, the first of which is JSON with ``alg``
    e-mail address     a name, ``@`` and a domain under a country's or a common top-level domain
    ================== =========================================================================================
    """
    found = [
        Secret(rule.kind, match.start())
        for rule in _RULES
        if any(mark in text for mark in rule.marks)
        for match in rule.pattern.finditer(text)
        if rule.holds(match.group("secret") if "secret" in rule.pattern.groupindex else match.group())
    ]
    return sorted(found, key=lambda secret: (secret.position, secret.kind))


def _looks_random(secret: str) -> bool:
    """Tell whether its characters vary as those of a random string of its length do, which placeholders' do not.

    Random strings of 16 characters out of 32 have less than 2.8 bits per character once in 10,000 cases.
    """
    if "EXAMPLE" in secret.upper():
        return False
    size = len(secret)
    return -sum(n / size * math.log2(n / size) for n in Counter(secret).values()) >= 2.8


def _is_mixed(secret: str) -> bool:
    kinds = (str.isupper, str.islower, str.isdigit)
    return all(any(map(kind, secret)) for kind in kinds) and _looks_random(secret)


def _is_token(token: str) -> bool:
    head = token.partition(".")[0]
    try:
        decoded = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return False
    return isinstance(decoded, dict) and "alg" in decoded


#: Common top-level domains and the countries' two letters; without such a list, ``self@other.value`` in code and
#: ``icon@2x.png`` would count as addresses.
_DOMAINS = re.compile(
    "com|org|net|edu|gov|mil|int|info|biz|name|pro|aero|coop|museum|jobs|mobi|travel|dev|app|cloud|tech|online|site|store|"
    "shop|blog|xyz|email|agency|company|digital|group|solutions|systems|world|academy|expert|network|[a-z]{2}"
)
_RESERVED = ("example.com", "example.org", "example.net", "example.edu", "test", "example", "invalid", "localhost")


def _is_address(address: str) -> bool:
    name, _, domain = address.lower().rpartition("@")
    last = domain.rpartition(".")[2]
    if name == "git" or ".." in address or name[0] == "." or name[-1] == ".":
        return False
    if any(domain == reserved or domain.endswith("." + reserved) for reserved in _RESERVED):
        return False
    return _DOMAINS.fullmatch(last) is not None


def _rule(kind: str, marks: str, pattern: str, holds: Callable[[str], bool] = _looks_random) -> _Rule:
    return _Rule(kind, tuple(marks.split()), re.compile(pattern), holds)


_RULES = (
    _rule("AWS access key", "AKIA ASIA", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)(?P<secret>[A-Z2-7]{16})(?![A-Za-z0-9])"),
    _rule(
        "AWS secret key",
        "aws AWS Aws",
        r"(?i:aws[\w. -]{0,20}secret[\w. -]{0,20}[\"']?\s{0,3}[:=]\s{0,3}[\"']?)"
        r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
    ),
    _rule("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"(?<![A-Za-z0-9])gh[pousr]_(?P<secret>[A-Za-z0-9]{36,255})\b"),
    _rule("GitHub token", "github_pat_", r"(?<![A-Za-z0-9])github_pat_(?P<secret>[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b"),
    _rule("OpenAI key", "sk-", r"(?<![\w-])sk-(?P<secret>[A-Za-z0-9]{48})(?![\w-])", _is_mixed),
    _rule("OpenAI key", "sk-", r"(?<![\w-])sk-(?:proj|svcacct|admin)-(?P<secret>[\w-]{40,})", _is_mixed),
    _rule("Hugging Face token", "hf_", r"(?<![A-Za-z0-9_])hf_(?P<secret>[A-Za-z0-9]{34,40})(?![A-Za-z0-9_])"),
    _rule("Slack token", "xox", r"(?<![A-Za-z0-9])xox[abeoprs]-(?P<secret>(?:\d-)?\d{10,}-[A-Za-z0-9-]{20,})"),
    _rule(
        "Slack token",
        "hooks.slack.com",
        r"hooks\.slack\.com/services/(?P<secret>T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{24})(?![A-Za-z0-9])",
    ),
    _rule("Google key", "AIza", r"(?<![\w-])AIza(?P<secret>[\w-]{35})(?![\w-])"),
    _rule("Google key", "GOCSPX-", r"(?<![\w-])GOCSPX-(?P<secret>[\w-]{28})(?![\w-])"),
    _rule(
        "private key",
        "PRIVATE",
        r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:\s|\\[rn]|[A-Z][\w-]{2,30}: [^\n\\]{0,200}){1,20}"
        r"(?P<secret>(?:[A-Za-z0-9+/=]|\s|\\[rn]){40,})",
    ),
    _rule("JSON web token", "eyJ", r"(?<![\w-])(?P<secret>eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,})", _is_token),
    _rule(
        "e-mail address",
        "@",
        r"(?<![\w.+%/:-])[A-Za-z0-9][\w.+%-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,24}"
        r"(?![\w@-])",
        _is_address,
    ),
)
