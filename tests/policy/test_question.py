from __future__ import annotations

import pytest

from pyopenshell.policy import load
from pyopenshell.policy.engine import compile
from pyopenshell.policy.question import ask, question

CURL = "/usr/bin/curl"


@pytest.mark.parametrize(
    ("method", "url", "shown"),
    [
        ("GET", "https://API.github.com/a/../b?x=1", "GET api.github.com:443/a/../b?x=1"),
        ("GET", "http://x.test", "GET x.test:80/"),
        ("GET", "https://x.test?q=1", "GET x.test:443/?q=1"),
        ("GET", "https://[2001:db8::1]:8443/x", "GET [2001:db8::1]:8443/x"),
        ("connect", "x.test:22", "CONNECT x.test:22"),
        ("RAW", "tcp://x.test:5432", "RAW x.test:5432"),
        ("GET", "https://127.1/", "GET 127.1:443/"),
    ],
)
def test_questions(method: str, url: str, shown: str) -> None:
    assert str(question(method, url, CURL)) == shown


@pytest.mark.parametrize(
    ("method", "url", "binary", "message"),
    [
        ("G T", "https://x.test/", CURL, "is not a method"),
        ("GET", "x.test/", CURL, "expected a URL"),
        ("GET", "ftp://x.test/", CURL, "unknown scheme"),
        ("GET", "https://", CURL, "no host"),
        ("GET", "https://me@x.test/", CURL, "credentials do not belong"),
        ("GET", "https://x.test:0/", CURL, "a port from 1"),
        ("GET", "https://x.test:99999/", CURL, "a port from 1"),
        ("RAW", "x.test", CURL, "a port from 1"),
        ("GET", "https://x.test/#a", CURL, "fragment"),
        ("CONNECT", "https://x.test/path", CURL, "leave out the path"),
        ("GET", "https://x.test/", "curl", "absolute path"),
    ],
)
def test_what_is_no_question(method: str, url: str, binary: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        question(method, url, binary)


POLICY = """\
version: 1
network_policies:
  site:
    endpoints:
      - {host: a.test, port: 443, protocol: rest, access: read-only}
      - {host: b.test, port: 443, protocol: rest, access: read-only, enforcement: audit}
      - {host: c.test, port: 22}
    binaries: [{path: /usr/bin/curl}]
"""


@pytest.mark.parametrize(
    ("method", "url", "word"),
    [
        ("GET", "https://a.test/x", "allowed"),
        ("PUT", "https://a.test/x", "denied"),
        ("PUT", "https://b.test/x", "audited"),
        ("GET", "https://b.test/x", "allowed"),
        ("CONNECT", "a.test:443", "allowed"),
        ("RAW", "a.test:443", "denied"),
        ("RAW", "c.test:22", "allowed"),
        ("CONNECT", "c.test:23", "denied"),
    ],
)
def test_every_answer_is_exactly_one_word(method: str, url: str, word: str) -> None:
    answer = ask(compile(load(POLICY)), question(method, url, CURL))
    assert answer.word == word
    assert [answer.allows, answer.denies, answer.audits].count(True) == 1
    assert bool(answer.reason) is (word != "allowed")
    assert str(answer).splitlines()[-1].startswith("  = " + {"audited": "forwarded"}.get(word, word))
