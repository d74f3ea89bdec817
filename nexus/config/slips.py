"""What a line that is no TOML is told: the usual slips of the hand, in words.  A line may hold a secret, and is not repeated."""

from __future__ import annotations

import re
from collections.abc import Callable

from nexus.config.mistakes import quoted, secretive

BARE_WORD = r"(?!(?:true|false|[+-]?inf|[+-]?nan)\s*(?:#|$))[^\W\d][^\"'\[\]{}=]*"
TRUTH = r"(?i:true|false|yes|no|on|off)\s*(?:#.*)?"
BARE = r"\s*([\w.-]+)\s*=\s*"
SLIPS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"(<{7}|={7}|>{7})( .*)?", lambda m: "this is the mark of a merge that was not finished"),
    (r"\s*(//|;|--|/\*).*", lambda m: "a comment begins with #"),
    (r"\s*[{}].*", lambda m: "the file is no JSON: a table is begun with its name in brackets, as [server], and a key is name = value"),
    (r"[^\"'#]*[“”„‘’«»].*", lambda m: "the quotes of a text are \" or ', not typographic ones"),
    (rf"{BARE}{TRUTH}", lambda m: f"true and false are written so, in small letters: {_name(m)} = true"),
    (rf"{BARE}(?:None|null|nil)\s*(?:#.*)?", lambda m: "there is no such value: leave the key out"),
    (rf"{BARE}{BARE_WORD}", lambda m: f'a text needs quotes: {_name(m)} = "…"'),
    (rf"{BARE}[+-]?[\d.]+\s*[^\W\d_]+\s*(?:#.*)?", lambda m: f"a number stands alone, without its unit: {_name(m)} = 10"),
    (rf"{BARE}[+-]?\d+,\d+\s*(?:#.*)?", lambda m: f"a number has a point, not a comma: {_name(m)} = 0.5"),
    (rf"{BARE}(?:#.*)?", lambda m: f"the value is missing after {_name(m)} ="),
    (r"\s*[\w.-]+\s*:(?!=).*", lambda m: "a key is followed by =, not by a colon"),
    (r"\s*[\w.-]+\s*:=.*", lambda m: "a key is followed by =, not by :="),
    (r"\s*-\s.*", lambda m: "a list stands in brackets behind its key, as models = [\"a\", \"b\"]"),
    (r"\s*\[\[[^\[\]]+\]?\s*(?:#.*)?", lambda m: "the brackets do not match: two open it, so two must close it"),
    (r"\s*\[[^\[\]=,\"']+(?:\]\])?\s*(?:#.*)?", lambda m: "the brackets do not match: one opens it, so one must close it"),
    (r"[^\"'#=]*=\s*\"[^\"'#]*\\[^\"'#]*\".*", lambda m: "a backslash in \"…\" begins a sign of its own: write \\\\, or '…' around the text"),
    (r"[^\"'#]*=\s*\"[^\"]*", lambda m: 'the quote that closes the text is missing: "'),
    (r"[^\"'#]*=\s*'[^']*", lambda m: "the quote that closes the text is missing: '"),
    (r"\s*[\w-]+\s+[^=]*", lambda m: "a key is followed by = and its value"),
)  # fmt: skip
USUAL = tuple((re.compile(pattern), say) for pattern, say in SLIPS)
ODD_KEY = re.compile(r"\s*([^\s\"'=\[\]{}#]*[^\s\"'=\[\]{}#\w.-][^\s\"'=\[\]{}#]*)\s*=.*", re.ASCII)


def told(line: str, message: str) -> str:
    """What is wrong with the line.  `message` is the reader's own word, for what is no usual slip."""
    if odd := ODD_KEY.fullmatch(line):
        return f"a name with such letters needs quotes: {quoted(odd[1])} = …"
    return next((say(found) for pattern, say in USUAL if (found := pattern.fullmatch(line))), "") or sentence(message)


def _name(found: re.Match[str]) -> str:
    return found[1] if not secretive(found[1]) else "…"


def sentence(message: str) -> str:
    """The reader's own word, for people."""
    message = re.sub(r" at line \d+ col \d+$", "", message).rstrip(".")
    if r"\x00" in message or "end of file" in message:
        return "something is missing at the end"
    if "ontrol characters" in message:
        return "a text may not go on in the next line, nor hold other control characters"
    return "it cannot be read" if secretive(message) else message[:1].lower() + message[1:]
