"""Hostile input that several suites send: names with two readings, framing with two readings."""

from __future__ import annotations

ALLOWED = "plain.e2e.test"
"""What `HOSTS` imitate."""

HOSTS = {
    "nul": "plain.e2e.test\0.evil.test",
    "encoded nul": "plain.e2e.test%00.evil.test",
    "tab": "plain.e2e.test\t",
    "suffix": "plain.e2e.test.evil.test",
    "prefix": "evilplain.e2e.test",
    "user": "plain.e2e.test@evil.test",
    "backslash": "plain.e2e.test\\.evil.test",
    "fragment": "plain.e2e.test#evil.test",
    "integer": "2130706433",
    "octal": "0177.0.0.1",
    "hexadecimal": "0x7f.1",
    "short": "127.1",
    "mapped": "[::ffff:127.0.0.1]",
    "mapped metadata": "[::ffff:169.254.169.254]",
    "nat64": "[64:ff9b::7f00:1]",
    "6to4": "[2002:7f00:1::]",
    "zone": "[::1%25lo]",
    "unspecified": "0.0.0.0",
    "metadata": "metadata.google.internal",
    "raw address": "140.82.114.4",
    "bracketed name": "[plain.e2e.test]",
    "wildcard": "*",
    "empty label": "a..b",
    "homograph": "pl\u0430in.e2e.test",
}

AMBIGUOUS = {
    "length and chunked": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"),
    "same length twice": (b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "length list": (b"Content-Length: 5, 5\r\n", b"hello"),
    "length with sign": (b"Content-Length: +5\r\n", b"hello"),
    "length in hexadecimal": (b"Content-Length: 0x5\r\n", b"hello"),
    "xchunked": (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "chunked, identity": (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "blank before colon": (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "folded": (b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "bare line feed": (b"X: a\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "bare return": (b"X: a\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "nul": (b"X: a\0b\r\n", b""),
    "no utf-8": (b"X: \xff\xfe\r\n", b""),
    "two hosts": (b"Host: evil.test\r\n", b""),
    "dropped length": (b"Connection: content-length\r\nContent-Length: 5\r\n", b"hello"),
    "bare line feed in chunk": (b"Transfer-Encoding: chunked\r\n", b"5\nhello\n0\n\n"),
    "line feed in extension": (b"Transfer-Encoding: chunked\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "chunk too long": (b"Transfer-Encoding: chunked\r\n", b"5\r\nhelloXX\r\n0\r\n\r\n"),
    "chunk with blank": (b"Transfer-Encoding: chunked\r\n", b"5 \r\nhello\r\n0\r\n\r\n"),
    "length in trailer": (b"Transfer-Encoding: chunked\r\n", b"0\r\nContent-Length: 5\r\n\r\n"),
}
"""Header fields and body of a POST that two parsers could frame differently."""
