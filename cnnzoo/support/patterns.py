"""One language for names with dots: shell patterns, matched level by level."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from cnnzoo.errors import OptionError, unknown


def is_pattern(text: str) -> bool:
    """Whether a text may stand for several names."""
    return any(sign in text for sign in "*?[")


def fits(name: str, pattern: str) -> bool:
    """Whether a name is one that a pattern stands for: `*` stops at dots, `**` is any number of levels, also none."""
    return _fit(name.split("."), pattern.split("."))


def _fit(levels: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not levels
    first, *rest = patterns
    if first == "**":
        return any(_fit(levels[start:], rest) for start in range(len(levels) + 1))
    return bool(levels) and fnmatchcase(levels[0], first) and _fit(levels[1:], rest)


def named(known: Iterable[str], text: str, remedy: str = "") -> list[str]:
    """The names that a name or pattern stands for, in their order.

    Raises:
        OptionError: the text is no text.
        UnknownNameError: it stands for none; the message offers the nearest ones.
    """
    if not isinstance(text, str):
        raise OptionError(f'got {text!r}; layers are strings, one for each: "conv1", "conv2"')
    names = list(known)
    found = [name for name in names if (fits(name, text) if is_pattern(text) else name == text)]
    if not found:
        if is_pattern(text):
            remedy = f"A pattern matches level by level, from dot to dot; ** stands for any number of levels. {remedy}"
        raise unknown("", "pattern" if is_pattern(text) else "layer", text, names, remedy)
    return found
