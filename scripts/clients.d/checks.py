"""How a case says that something is not as it should be, or that its client cannot do what it is about."""

import re


class Failed(Exception):
    """The client did not get what it should."""


class NotAvailable(Exception):
    """This client cannot do what the case is about; says what it lacks."""


def expect_same(what, seen, expected):
    """Fails unless both are equal."""
    if seen != expected:
        raise Failed(f"{what}: expected {_short(expected)}, seen {_short(seen)}")


def expect_match(what, seen, pattern):
    """Fails unless the pattern is found in the text, letters in any case."""
    match = re.search(pattern, seen, re.I | re.M)
    if not match:
        raise Failed(f"{what}: expected a match for {pattern!r}, seen {_short(seen)}")
    return match


def _short(value):
    text = repr(value)
    return text if len(text) <= 2000 else f"{text[:2000]}... ({len(value)} long)"
