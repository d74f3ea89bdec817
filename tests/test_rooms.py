"""The house: which room may know which, who alone touches what comes from outside, and that every file says what it is for.

Rooms are listed from the ground up: one may import only from those above it in the table, so nothing goes in a circle.  A folder
is one room.  What is imported for types only does not count.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import nexus

ROOT = Path(nexus.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# room: what it may import from nexus
ROOMS = {
    # values and contracts
    "plain": "",
    "model": "",
    "errors": "model plain",
    "hookspecs": "",
    "api": "model errors hookspecs",
    "redaction": "api",
    # small things that know no others
    "clock": "",
    "runtime": "",
    "aside": "",
    "tasks": "errors",
    "holder": "",
    "outbox": "",
    "slices": "",
    "descriptors": "",
    "hosts": "",
    "nearest": "",
    "sentences": "model",
    # deciding: pure, or with state of their own
    "policies": "model",
    "names": "model policies",
    "failures": "model",
    "outcome": "errors failures model",
    "echoes": "outcome",
    "pauses": "",
    "patience": "errors plain",
    "suspension": "",
    "health": "model",
    "crossing": "api model plain redaction",
    "slots": "",
    "listing": "model patience policies",
    "pairs": "api health listing model patience policies slots suspension",
    "index": "listing pairs policies",
    "fleet": "crossing health index listing model pairs plain slices slots suspension",
    "routing": "api errors model",
    "waiters": "model",
    "waiting": "errors model waiters",
    "conditions": "model routing waiters",
    "sampling": "model names pairs policies slices",
    "verdict": "errors model routing sentences",
    # speaking to servers
    "upstream": "descriptors errors outbox plain slices",
    "largejson": "",
    "dialects": "api errors model",
    "backends": "api descriptors dialects largejson outcome plain",
    # from a request to an open reply
    "context": "api model routing",
    "reading": "api aside dialects errors",
    "reply": "api aside dialects errors fleet model reading redaction",
    "judging": "api dialects echoes failures fleet context model outcome pauses",
    "attempt": "api aside dialects errors failures fleet context judging model outcome patience plain reading redaction reply routing",
    "unknown": "context errors fleet model names nearest pairs verdict",
    "decision": "api attempt context dialects errors fleet model names routing sampling unknown verdict waiting",
    "dispatch": "attempt conditions context decision errors fleet model reply waiters waiting",
    # witnesses
    "observers": "api errors model plain sentences",
    # finding servers
    "discovery": "api",
    "trust": "discovery model",
    "loopback": "api",
    "state": "model",
    "probing": "api crossing errors fleet model state",
    # wiring
    "builtin": "api dialects loopback observers",
    "overriding": "nearest",
    "catalog": "api hookspecs nearest overriding",
    "config": "api catalog errors model nearest",
    "keys": "config",
    "components": "api errors overriding tasks upstream",
    "unrecognised": "api backends",
    "advice": "api discovery",
    "finding": "advice api catalog components config crossing discovery errors fleet listing patience probing state tasks trust unrecognised upstream",
    "witnesses": "api errors model",
    "gateway": "api attempt catalog clock components config decision dialects dispatch errors finding fleet health keys model names outcome patience policies probing routing state"
    " tasks upstream waiting witnesses",
    # HTTP in, HTTP out
    "wishes": "errors model",
    "stall": "",
    "visit": "",
    "hosted": "errors visit",
    "downstream": "errors outbox slices stall visit",
    "body": "errors model visit",
    "door": "config errors hosts keys",
    "relay": "api dialects errors context model outcome plain redaction reply verdict visit",
    "watch": "context relay slices stall visit",
    "answer": "api aside body config dialects errors gateway context keys model names relay visit watch wishes",
    "explaining": "answer api aside config dialects dispatch errors gateway context model observers plain slices",
    "served": "api aside fleet model names pairs policies slices",
    "pages": "api config dialects door errors gateway model served",
    "control": "api aside body dialects errors explaining gateway health hosted model observers pairs slices suspension unrecognised waiters",
    "front": "answer api body config control door errors gateway hosted nearest pages relay visit watch",
    "webserver": "answer errors stall",
    "server": "catalog config descriptors downstream errors front gateway holder state tasks watch webserver",
    # for people and for authors
    "testing": "api backends catalog clock dialects discovery model server tasks upstream",
    "cli": "api catalog config errors gateway keys model nearest observers pairs plain runtime server tasks testing upstream",
    "__main__": "cli",
    "__init__": "",
}

# what comes from outside: the only rooms that may touch it
HOMES = {
    "httptools": "downstream upstream",
    "pluggy": "hookspecs catalog",
    "importlib.metadata": "catalog",
    "tomlkit": "config",
    "cattrs": "config",
    "sqlite3": "state",
    "platformdirs": "state",
    "msgspec": "api attempt components config context decision dialects discovery gateway health holder listing model observers outcome pairs "
    "patience policies probing routing sentences waiting wishes",
    "aiohttp.web": "control front hosted server testing webserver",
    "aiohttp.ClientSession(": "components testing",
    "click": "cli",
    "rich": "cli",
    "pytest": "testing",
    "pytest_asyncio": "testing",
}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All of a file, but for what is there for types only."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from nodes(node)


@functools.cache
def touched(path: Path) -> frozenset[str]:
    """What a file imports, as dotted names, and the sessions it makes."""
    found = set()
    for node in nodes(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import hides which room it means"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ClientSession"):
            found.add("aiohttp.ClientSession(")
    return frozenset(found)


def test_a_room_knows_only_those_it_may_know():
    for path in FILES:
        known = {name.split(".")[1] for name in touched(path) if name.startswith("nexus.")} - {"__version__", room(path)}
        assert known <= set(ROOMS[room(path)].split()), path


def test_what_comes_from_outside_has_its_only_homes():
    for path in FILES:
        for outside, homes in HOMES.items():
            if any(name == outside or name.startswith(outside + ".") for name in touched(path)):
                assert room(path) in homes.split(), f"{path}: {outside} belongs to {homes}"


def test_every_file_says_what_it_is_for():
    assert [path for path in FILES if not (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").strip()] == []


def test_the_table_is_the_house_and_goes_in_no_circle():
    assert set(ROOMS) == {room(path) for path in FILES}
    for number, (name, allowed) in enumerate(ROOMS.items()):
        assert set(allowed.split()) <= set(list(ROOMS)[:number]), name


def test_the_table_allows_nothing_that_is_not_used():
    used: dict[str, set[str]] = {name: set() for name in ROOMS}
    homes: dict[str, set[str]] = {outside: set() for outside in HOMES}
    for path in FILES:
        names = touched(path)
        used[room(path)] |= {name.split(".")[1] for name in names if name.startswith("nexus.")} - {"__version__", room(path)}
        for outside in HOMES:
            if any(name == outside or name.startswith(outside + ".") for name in names):
                homes[outside].add(room(path))
    assert {
        name: sorted(set(allowed.split()) - used[name]) for name, allowed in ROOMS.items() if set(allowed.split()) - used[name]
    } == {}
    assert {outside: set(rooms.split()) for outside, rooms in HOMES.items()} == homes
