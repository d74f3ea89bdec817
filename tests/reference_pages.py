"""The reference pages that repeat the code: hooks, values, dialects, testing kit.  Here the sections are made from the source; `test_docs_reference.py` compares.

After a change of a signature or a docstring, write them anew:  python tests/reference_pages.py
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
WIDTH = 132
# A section begins with its heading and ends before the next one of the same or a higher level.
SECTION = re.compile(r"^## `?(?:async )?(\w+)[^\n]*\n.*?(?=^#{1,2} |\Z)", re.MULTILINE | re.DOTALL)

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

PAGES: Mapping[str, tuple[str, ...]] = {
    "hooks.md": ("nexus/hookspecs.py", "nexus/api", "nexus/errors.py"),
    "values.md": ("nexus/model",),
    "dialects.md": (
        "nexus/dialects/canonical",
        *(f"nexus/dialects/{name}.py" for name in ("fields", "checks", "jsontext", "members", "complaints", "unread")),
        *(f"nexus/dialects/{name}.py" for name in ("watching", "decoding", "sse", "lines")),
    ),
    "testing.md": ("nexus/testing",),
    "conformance.md": ("nexus/testing/conformance",),
}


def sections(page: str) -> dict[str, str]:
    """The sections of a page as they are, by the name in their heading."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    return {found[1]: found[0].rstrip() + "\n" for found in SECTION.finditer(text)}


@cache
def rendered(page: str) -> Mapping[str, str]:
    """The sections of a page as they should be: of everything public in its sources."""
    made = {}
    for path in PAGES[page]:
        for file in sorted((ROOT / path).rglob("*.py")) if (ROOT / path).is_dir() else [ROOT / path]:
            source = file.read_text(encoding="utf-8")
            for node in ast.parse(source).body:
                if isinstance(node, Definition) and not node.name.startswith("_"):
                    made[node.name] = "\n".join(_section(node, source)).rstrip() + "\n"
    return made


def _section(node: Definition, source: str) -> Iterator[str]:
    if not isinstance(node, ast.ClassDef):
        yield f"## {_fixture(node) or _code(signature(node, source))}"
        yield ""
        yield from _prose(node)
        return
    yield f"## {node.name}"
    yield ""
    yield from _prose(node)
    yield from _fields(node, source)
    for verb in node.body:
        if isinstance(verb, ast.FunctionDef | ast.AsyncFunctionDef) and _is_told(verb, node):
            yield f"### {_code(_verb(verb, node, source))}"
            yield ""
            yield from _prose(verb)


def _is_told(verb: ast.FunctionDef | ast.AsyncFunctionDef, owner: ast.ClassDef) -> bool:
    """What a subclass overrides for itself and its base explains is not said again."""
    if verb.name.startswith(("_", "test_")):
        return verb.name == "__init__" and len(verb.args.args) + len(verb.args.kwonlyargs) > 1
    is_interface = bool(verb.decorator_list) or any(ast.unparse(base) == "Protocol" for base in owner.bases)
    return is_interface or not owner.bases or bool(ast.get_docstring(verb))


def _fixture(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    """A fixture's heading is its name: nobody calls it."""
    return f"`{node.name}`" if any("fixture" in ast.unparse(d) for d in node.decorator_list) else None


def _verb(verb: ast.FunctionDef | ast.AsyncFunctionDef, owner: ast.ClassDef, source: str) -> str:
    if any(ast.unparse(d) == "property" for d in verb.decorator_list) and verb.returns:
        return f"{verb.name}: {ast.unparse(verb.returns)}"
    said = signature(verb, source)
    return said.replace("__init__(self, ", f"{owner.name}(").removesuffix(" -> None") if verb.name == "__init__" else said


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> str:
    """The signature on one line, as it is written in the source."""
    body = node.body[0]
    lines = source.splitlines()[node.lineno - 1 : body.lineno]
    lines[-1] = lines[-1][: body.col_offset]
    text = " ".join(re.sub(r"  # .*", "", line).strip() for line in lines).strip().removesuffix(":")
    return text.replace("( ", "(").replace(", )", ")").replace(" )", ")").removeprefix("def ").replace("async def ", "async ")


def _fields(node: ast.ClassDef, source: str) -> Iterator[str]:
    if any(isinstance(n, ast.FunctionDef) and n.name == "__init__" for n in node.body):
        return
    fields = [_field(n, source) for n in node.body if isinstance(n, ast.AnnAssign | ast.Assign)]
    fields = [field for field in fields if not field.startswith("_")]
    if fields:
        yield from ("```python", *fields, "```", "")


def _field(node: ast.AnnAssign | ast.Assign, source: str) -> str:
    value = node.value
    if isinstance(node, ast.AnnAssign) and isinstance(value, ast.Call) and ast.unparse(value.func) == "attrs.field":
        default = next((keyword.value for keyword in value.keywords if keyword.arg == "default"), None)
        declared = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
        return f"{declared} = {ast.get_source_segment(source, default)}" if default else declared
    return re.sub(r"\s+", " ", ast.get_source_segment(source, node) or "")


def _prose(node: Definition) -> Iterator[str]:
    """A docstring as Markdown: paragraphs, lists of words with their meaning, and indented code."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    code: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text) if text else ():
        if paragraph.startswith(("    ", "class Test")):
            code.append(paragraph)
            continue
        yield from _fenced(code)
        code = []
        if all(re.match(r"[a-z]+ {2,}\S| {6}", line) for line in paragraph.splitlines()):
            yield from (*(re.sub(r"^([a-z]+) +", r"- `\1`: ", line) for line in paragraph.splitlines()), "")
        else:
            yield from (_wrapped(paragraph), "")
    yield from _fenced(code)


def _fenced(code: Iterable[str]) -> Iterator[str]:
    text = "\n\n".join(code)
    if text:
        yield from ("```python", textwrap.dedent(text) if text.startswith(" ") else text, "```", "")


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(re.sub(r"\s+", " ", text), WIDTH, break_long_words=False, break_on_hyphens=False))


def _code(text: str) -> str:
    return f"`{text}`"


def renewed(page: str) -> str:
    """The page with every section as it should be; sections of names that there are no more stay as they are."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    made = rendered(page)
    return SECTION.sub(lambda found: made.get(found[1], found[0].rstrip() + "\n") + "\n", text).rstrip() + "\n"


if __name__ == "__main__":
    for name in PAGES:
        (REFERENCE / name).write_text(renewed(name), encoding="utf-8")
