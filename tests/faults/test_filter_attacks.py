"""Filters meant to do harm: each is given to `check`, and also, past `check`, to a fenced reader on a real database.

Every attack runs in a process of its own under a limit of memory, of processor time and of time. What the fence lets
through (`fenced=""`) reads only the storage's own rows: it could skip the position, or make a message that is sent
again differ, which is why `check` refuses it.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support import run_python

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "TOPSECRET"  # noqa: S105  (what must not be found)
DEADLINE_SECONDS = 0.5


class Attack(NamedTuple):
    """A filter's text, what the refusal of `check` holds (empty: it allows this), and what the fence's error holds."""

    name: str
    text: str
    refused: str
    fenced: str


DENIED = "not authorized|prohibited|authorization denied|vtable constructor failed"
# Before Python 3.12 a connection cannot be told that double quotes never make a string.
UNKNOWN_IN_QUOTES = "no such column" if sys.version_info >= (3, 12) else ""
ONLY_CHECK = "only check"  # one uninterruptible step of what the library itself needs: not tried past `check`
TIME = "present time"
SUBSELECT = "sub-select"
SYNTAX = "syntax error"

ATTACKS = [
    # --- out of the parentheses
    Attack("skip the cursor", "1=1) OR (1=1", SYNTAX, ""),
    Attack("skip the cursor by id", "id > 0) OR (id > 0", SYNTAX, ""),
    Attack("balanced and", "level > 1) AND (level < 99", SYNTAX, ""),
    Attack(
        "balanced, then a sub-select",
        f"1) OR (SELECT value FROM secrets WHERE value = '{SECRET}'",
        SUBSELECT,
        DENIED,
    ),
    Attack("union", "1=0) UNION ALL SELECT 1, value FROM secrets WHERE (1=1", SUBSELECT, DENIED + "|too many terms"),
    Attack("union of own rows", "1=0) UNION ALL SELECT id, name FROM log WHERE (1=1", SUBSELECT, "too many terms"),
    Attack("union of values", "1=0) UNION VALUES (1, 2) --", SUBSELECT, "syntax error|too many terms"),
    Attack("except", "1) EXCEPT SELECT 1, value FROM secrets WHERE (1", SUBSELECT, DENIED + "|too many terms"),
    Attack("parenthesis in a comment", "1=1 /*) OR (*/", "", ""),
    Attack("parenthesis in a line comment", "1=1 --) OR (1=1", "", ""),
    Attack("parenthesis behind a line comment", "1=1 -- \n) OR (1=1", SYNTAX, ""),
    Attack("comment left open", "1=1 /*", "incomplete input", "incomplete input|syntax error"),
    Attack("comment left open after a break-out", "1=1) /*", SYNTAX, "number of bindings"),
    Attack("comment to the end after a break-out", "1=1) --", SYNTAX, SYNTAX),
    Attack("nested comment", "1=1 /* /* */ */", SYNTAX, SYNTAX),
    Attack("comment inside a word", "1=1) UN/**/ION SELECT 1, value FROM secrets WHERE (1", SUBSELECT, SYNTAX),
    Attack("string left open", "name = 'x", "unrecognized token", "unrecognized token"),
    Attack("string with an escaped end", "name = 'x'') OR (1=1", "unrecognized token", "unrecognized token"),
    Attack("backslash does not escape", r"name = 'x\') OR (''=''", SYNTAX, ""),
    Attack("parenthesis in a quoted name", '"level) OR (1=1" = 1', "no such column", UNKNOWN_IN_QUOTES),
    Attack("parenthesis in brackets", "[level) OR (1=1] = 1", "no such column", "no such column"),
    Attack("parenthesis in back quotes", "`level) OR (1=1` = 1", "no such column", "no such column"),
    Attack("bracket left open", "[level = 1", "unrecognized token", "unrecognized token"),
    Attack("line break instead of an end", "1=1\n)\nOR\n(1=1", SYNTAX, ""),
    Attack("full-width parentheses", "1=1\uff09 OR \uff081=1", "unrecognized token", "unrecognized token"),
    Attack("full-width quote", "name = \uff07x\uff07", "no such column", "no such column"),
    Attack("no-break space", "level\u00a0= 1", "no such column", "no such column"),
    Attack("byte order mark before select", "id IN (\ufeffSELECT id FROM secrets)", "no such table", DENIED),
    Attack("byte order mark before select of nothing", "id IN (\ufeffSELECT 12)", SUBSELECT, ""),
    Attack("NUL cuts the text", "1=1)\0", "NUL", "null character"),
    Attack("NUL in a string", "name = '\0'", "NUL", "null character"),
    Attack("lone surrogate", "name = '\ud800'", "surrogates", "surrogates"),
    # --- a second statement, a tail
    Attack("second statement", "1=1); DROP TABLE log; --", "one condition", "one statement"),
    Attack("second statement without parenthesis", "1=1; DROP TABLE log", "one condition", SYNTAX),
    Attack("semicolon at the end", "level > 1;", "one condition", SYNTAX),
    Attack("order", "1 ORDER BY id", SYNTAX, SYNTAX),
    Attack("limit", "1 LIMIT 1", SYNTAX, SYNTAX),
    Attack("limit after a break-out", "1) LIMIT 1 --", SYNTAX, SYNTAX),
    Attack("group", "1 GROUP BY level", SYNTAX, SYNTAX),
    Attack("having", "1 GROUP BY level HAVING 1", SYNTAX, SYNTAX),
    Attack("window clause", "1 WINDOW w AS (ORDER BY id)", SYNTAX, SYNTAX),
    Attack("with", "WITH x AS (SELECT 1) SELECT 1", SUBSELECT, ""),
    Attack("two conditions", "level, id", SYNTAX, "row value misused"),
    Attack("alias", "level AS x", SYNTAX, SYNTAX),
    Attack("indexed by", "1 INDEXED BY x", SYNTAX, SYNTAX),
    # --- other tables
    Attack("exists", "EXISTS (SELECT 1 FROM secrets)", SUBSELECT, DENIED),
    Attack("scalar sub-select", "(SELECT value FROM secrets LIMIT 1) LIKE 'T%'", SUBSELECT, DENIED),
    Attack("in a sub-select", "id IN (SELECT id FROM secrets)", SUBSELECT, DENIED),
    Attack("in a table", "id IN secrets", "no such table", DENIED),
    Attack("in a table in another spelling", "id IN 'SECRETS'", "no such table", DENIED),
    Attack("in a table of the schema", "id IN main.secrets", "no such table", DENIED),
    Attack("in a view of the secrets", "id IN peek", "no such table", DENIED),
    Attack("in the own table", "(id, time, name, level, msg) IN log", "no such table", ""),
    Attack("own table in a sub-select", "id = (SELECT max(id) FROM log)", SUBSELECT, ""),
    Attack("sqlite_master", "EXISTS (SELECT 1 FROM sqlite_master WHERE sql LIKE '%secret%')", SUBSELECT, DENIED),
    Attack("in sqlite_master", "(1, 2, 3, 4, 5) IN sqlite_master", "sqlite_master", DENIED),
    Attack("sqlite_schema", "1 = (SELECT count(*) FROM sqlite_schema)", SUBSELECT, DENIED),
    Attack("sqlite_temp_master", "1 = (SELECT count(*) FROM sqlite_temp_master)", SUBSELECT, DENIED),
    Attack("sqlite_sequence", "1 = (SELECT seq FROM sqlite_sequence)", SUBSELECT, DENIED),
    Attack("sqlite_stmt", "EXISTS (SELECT 1 FROM sqlite_stmt)", SUBSELECT, DENIED),
    Attack("dbstat", "EXISTS (SELECT 1 FROM dbstat)", SUBSELECT, DENIED),
    Attack("json_each", "id IN (SELECT value FROM json_each('[1,2]'))", SUBSELECT, DENIED),
    Attack("in json_each", "id IN json_each('[1,2]')", "only be a condition", DENIED),
    Attack("path of the file", "EXISTS (SELECT file FROM pragma_database_list)", SUBSELECT, DENIED),
    Attack("values", "id IN (VALUES (11), (12))", SUBSELECT, ""),
    Attack("one value", "id IN (VALUES (11))", SUBSELECT, ""),
    Attack("short-circuited sub-select", "0 AND EXISTS (SELECT 1 FROM secrets)", SUBSELECT, ""),
    Attack("qualified by the table", "log.level = 1", "no such column", ""),
    Attack("qualified by schema and table", "main.log.level = 1", "no such column", ""),
    Attack("qualified by another table", "secrets.value = 1", "no such column", "no such column"),
    # --- for ever
    Attack(
        "endless recursion",
        "EXISTS (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT 1 FROM c WHERE x < 0)",
        SUBSELECT,
        "too many terms",
    ),
    Attack(
        "cross join of the own table",
        "0 < (SELECT count(*) FROM log a, log b, log c, log d, log e WHERE a.id + b.id + c.id + d.id < e.id - 999)",
        SUBSELECT,
        "interrupted",
    ),
    Attack("like with many wild cards", f"msg LIKE '{'%a' * 99}b'", "", ""),
    Attack("like with one long literal", f"msg LIKE '%{'a' * 198}b'", "", ""),
    Attack("glob with many classes", f"msg GLOB '*{'[a-b]' * 39}c'", "", ""),
    Attack("like with a long pattern", f"msg LIKE '%{'a' * 5000}b'", "too complex", "too complex"),
    Attack("like with the row as pattern", "msg LIKE msg", "", "too complex"),
    Attack("trim, quadratic", "trim(msg, msg) = ''", "'trim' is not allowed", DENIED),
    Attack("rtrim, quadratic", "rtrim(msg, hex(msg)) = ''", "'rtrim' is not allowed", ONLY_CHECK),
    Attack("instr, quadratic", "instr(msg, substr(msg, 1, 1000) || 'b')", "'instr' is not allowed", ""),
    Attack("replace, quadratic", "length(replace(msg, 'a', 'aa')) > 1", "'replace' is not allowed", ""),
    # --- memory
    Attack("randomblob", "length(randomblob(900000000)) > 1", "'randomblob' is not allowed", DENIED),
    Attack("zeroblob", "length(zeroblob(900000000)) > 1", "'zeroblob' is not allowed", DENIED),
    Attack("hex of zeroblob", "length(hex(zeroblob(400000000))) > 1", "is not allowed", DENIED),
    Attack("printf", "length(printf('%900000000s', 'x')) > 1", "'printf' is not allowed", ""),
    Attack("format", "length(format('%.*c', 900000000, 'x')) > 1", "'format' is not allowed", ONLY_CHECK),
    Attack(
        "replace bomb",
        f"length({'replace(' * 9}'aaaaaaaaaa'{(', ' + repr('a') + ', ' + repr('a' * 10) + ')') * 9})",
        "'replace' is not allowed",
        "too big",
    ),
    Attack("joining", f"length(msg{' || msg' * 3000}) > 1", "bytes", "too big|interrupted|too large"),
    Attack(
        "joining, evenly",
        f"length({'||'.join(['(' + '||'.join(['msg'] * 40) + ')'] * 40)}) > 1",
        "at most 8",
        ONLY_CHECK,
    ),
    Attack(
        "group_concat",
        "length((SELECT group_concat(a.msg) FROM log a, log b, log c)) > 1",
        SUBSELECT,
        "too big|interrupted",
    ),
    Attack("long list", f"id IN ({','.join(map(str, range(200_000)))})", "bytes", "too big|too large|too long"),
    Attack("deep parentheses", "(" * 600 + "1" + ")" * 600, "stack overflow", "stack overflow"),
    Attack("parentheses that fit only here", "(" * 75 + "1" + ")" * 75, "stack overflow", ""),
    Attack("deep expression", "NOT " * 1500 + "1", "maximum depth|stack overflow", "maximum depth|stack overflow"),
    # --- functions that do or tell too much
    Attack("load_extension", "load_extension('/tmp/x.so')", "'load_extension' is not allowed", DENIED),
    Attack("random", "random() > 0", "'random' is not allowed", DENIED),
    Attack("changes", "changes() = 0", "'changes' is not allowed", DENIED),
    Attack("last_insert_rowid", "last_insert_rowid() = 0", "'last_insert_rowid' is not allowed", DENIED),
    Attack("version", "sqlite_version() > '1'", "'sqlite_version' is not allowed", DENIED),
    Attack("compile options", "sqlite_compileoption_get(1) > ''", "is not allowed", DENIED),
    Attack("write to the log", "sqlite_log(1, 'x')", "is not allowed", DENIED),
    Attack("hex", "hex(name) = '00'", "'hex' is not allowed", ""),
    Attack("hex in another spelling", 'HeX/**/(name) = "name"', "'hex' is not allowed", ""),
    Attack("quoted function", "[hex](name) = '00'", "'hex' is not allowed", ""),
    Attack("json", "json_extract(msg, '$.a') = 1", "'json_extract' is not allowed", DENIED),
    Attack("json arrow", "msg ->> '$.a' = 1", "'->>' is not allowed", DENIED),
    Attack("count", "count(*) > 1", "'count' is not allowed", "misuse of aggregate"),
    Attack("max of all rows", "max(level) > 1", "misuse of aggregate", "misuse of aggregate"),
    Attack("window function", "count(*) OVER () > 1", "'count' is not allowed", "misuse of window"),
    Attack("row_number", "row_number() OVER () > 1", "'row_number' is not allowed", DENIED),
    Attack("max as a window function", "max(level) OVER () > 1", "misuse of window", "misuse of window"),
    Attack("filter clause", "max(level) FILTER (WHERE 1) > 1", "misuse of aggregate", "misuse of aggregate"),
    Attack("match", "msg MATCH 'x'", "'match' is not allowed", DENIED),
    Attack("regexp", "msg REGEXP 'x'", "no such function: REGEXP", "no such function"),
    Attack("raise", "raise(IGNORE)", "RAISE", "RAISE"),
    Attack("unknown collation", "name COLLATE nosuch = 'x'", "no such collation", "no such collation"),
    # --- answers that change while rows wait
    Attack("current_timestamp", "CURRENT_TIMESTAMP > name", "'current_timestamp' is not allowed", DENIED),
    Attack("now", "julianday('now') > time", TIME, ""),
    Attack("NOW of strftime", "strftime('%s', 'NOW') - 60 < time", TIME, ""),
    Attack("now among arguments", "date(coalesce(NULL, 'now')) > name", TIME, ""),
    Attack("no argument", "unixepoch() > time", TIME, ""),
    Attack("no time", "strftime('%s') > time", TIME, ""),
    # --- the library's own parameters
    Attack("first parameter", "?1 < id", r"placeholder \?1", "^$|named parameter"),
    Attack("named parameter", ":after < id", "placeholder :after", "bindings|named placeholders|Binding"),
    Attack("at parameter", "@after < id", "placeholder @after", "bindings|named placeholders|Binding"),
    Attack("dollar parameter", "$after < id", r"placeholder \$after", "bindings|named placeholders|Binding"),
    Attack("one parameter too many", "id > ?", "number of bindings", "number of bindings"),
    # --- names
    Attack("unknown column in double quotes", 'level = "nosuchcol"', "no such column", UNKNOWN_IN_QUOTES),
    Attack("string in double quotes", 'name = "MainThread"', "no such column", UNKNOWN_IN_QUOTES),
    Attack("unknown column", "nosuch = 1", "no such column: nosuch", "no such column"),
    Attack("quoted keyword as a string", 'name = "true"', "no such column", UNKNOWN_IN_QUOTES),
]

FENCED = [attack for attack in ATTACKS if attack.fenced != ONLY_CHECK]

# Not conditions at all: what happens if a whole statement reaches the fenced reader.
STATEMENTS = [
    ("ATTACH DATABASE 'new.db' AS other", DENIED),
    ("DETACH DATABASE main", DENIED),
    ("VACUUM INTO 'copy.db'", DENIED),
    ("PRAGMA query_only = 0", DENIED),
    ("PRAGMA writable_schema = 1", DENIED),
    ("PRAGMA database_list", DENIED),
    ("CREATE TEMP TABLE x (y)", DENIED),
    ("CREATE TABLE x (y)", DENIED),
    ("CREATE VIRTUAL TABLE temp.x USING fts5(y)", DENIED),
    ("CREATE TEMP TRIGGER x AFTER INSERT ON log BEGIN SELECT 1; END", DENIED),
    ("INSERT INTO log (name) VALUES ('x')", DENIED),
    ("INSERT INTO log (name) SELECT value FROM secrets", DENIED),
    ("UPDATE log SET level = 0", DENIED),
    ("DELETE FROM log", DENIED),
    ("DROP TABLE log", DENIED),
    ("ALTER TABLE log RENAME TO gol", DENIED),
    ("REINDEX", DENIED),
    ("ANALYZE", DENIED),
    ("SAVEPOINT x", DENIED),
    ("SELECT * FROM secrets", DENIED),
    ("SELECT count(*) FROM secrets", DENIED),
    ("SELECT name FROM sqlite_master", DENIED),
    ("SELECT load_extension('x.so')", DENIED),
    ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c", "too many terms"),
]

# Mode, text, and what the outcome shows: without the fence, the same harness must see each kind of harm.
HARM = [
    ("open", "1=0) UNION ALL SELECT 1, value FROM secrets WHERE (1=1", SECRET),
    ("open statement", "ATTACH DATABASE 'new.db' AS other; CREATE TABLE other.x (y)", "new.db"),
    ("open", next(attack.text for attack in ATTACKS if attack.name == "cross join of the own table"), "killed by SIG"),
    ("open", "length(zeroblob(500000000) || 'x') > 1", r'MemoryError|killed by SIGXCPU|"megabytes": ([5-9]|1\d)\d\d\.'),
]

_RUNNER = """
import json, os, resource, signal, sqlite3, sys, time
from contextlib import nullcontext
from pathlib import Path
from tsstreamer._filter import check, deadline, fence

COLUMNS = [("time", "REAL"), ("name", "TEXT"), ("level", "INTEGER"), ("msg", "TEXT")]


def attack(mode, text):
    if mode == "check":
        return check(text, (), COLUMNS).sql
    connection = sqlite3.connect("file:log.db?mode=ro", uri=True, isolation_level=None)
    if mode.startswith("fenced"):
        fence(connection, lambda: {"log"})
    with deadline(connection, DEADLINE) if mode.startswith("fenced") else nullcontext():
        if mode == "fenced statement":
            return connection.execute(text).fetchall()
        if mode == "open statement":
            return [connection.execute(part).fetchall() for part in text.split(";")]
        query = f"SELECT id, name FROM log WHERE id > ? AND id <= ? AND ({text}\\n) ORDER BY id LIMIT ?"
        return connection.execute(query, (10, 20, 1000)).fetchall()

def child(mode, text):
    resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))
    resource.setrlimit(resource.RLIMIT_CPU, (2, 3))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(20)
    start = time.process_time()  # a busy machine must not count
    try:
        outcome = {"result": attack(mode, text)}
    except BaseException as error:
        outcome = {"error": f"{type(error).__name__}: {error}"}
    outcome["seconds"] = time.process_time() - start
    outcome["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return json.dumps(outcome)

for mode, text in json.loads(Path("attacks.json").read_text()):
    receiving, sending = os.pipe()
    if not (pid := os.fork()):
        with os.fdopen(sending, "w") as pipe:
            pipe.write(child(mode, text))
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as pipe:
        outcome = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(outcome or json.dumps({"error": f"killed by {signal.Signals(-status).name}", "seconds": 20, "megabytes": 0}))
"""


class Outcomes(NamedTuple):
    """What all the attacks came to, and the database with its folder before and after."""

    by_attack: dict[tuple[str, str], dict[str, Any]]
    before: list[str]
    after: list[str]


def _contents(connection: sqlite3.Connection, folder: Path) -> list[str]:
    return [*connection.iterdump(), *sorted(path.name for path in folder.iterdir())]


def _run(folder: Path, attacks: list[tuple[str, str]]) -> Outcomes:
    (folder / "attacks.json").write_text(json.dumps(attacks))
    with closing(sqlite3.connect(folder / "log.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL, name TEXT, level INTEGER, msg TEXT)"
        )
        rows = [(float(n), "MainThread", n % 50, "a" * (100_000 if n == 15 else 50)) for n in range(1, 101)]
        connection.executemany("INSERT INTO log (time, name, level, msg) VALUES (?, ?, ?, ?)", rows)
        connection.execute("CREATE TABLE secrets (id INTEGER PRIMARY KEY, value)")
        connection.execute("INSERT INTO secrets VALUES (12, ?)", (SECRET,))
        connection.execute("CREATE INDEX by_name ON log (name)")
        connection.execute("CREATE VIEW peek AS SELECT id FROM secrets")
        before = _contents(connection, folder)
        done = run_python(f"DEADLINE = {DEADLINE_SECONDS}\n{_RUNNER}", cwd=folder, seconds=50)
        assert done.stderr == ""
        outcomes = [json.loads(line) for line in done.stdout.splitlines()]
        return Outcomes(dict(zip(attacks, outcomes, strict=True)), before, _contents(connection, folder))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Run every attack once, each in its own process."""
    attacks = [("check", attack.text) for attack in ATTACKS] + [("fenced", attack.text) for attack in FENCED]
    attacks += [("fenced statement", text) for text, _ in STATEMENTS]
    return _run(tmp_path_factory.mktemp("attacks"), attacks)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_check_refuses_what_is_not_a_plain_condition(attack: Attack, outcomes: Outcomes) -> None:
    """`check` refuses the attack with a FilterError that says what, or the text is harmless as it stands."""
    outcome = outcomes.by_attack["check", attack.text]
    error = outcome.get("error", "")
    assert re.search(f"^FilterError: .*({attack.refused})" if attack.refused else "^$", error, re.DOTALL), error
    assert outcome["seconds"] < 1


@pytest.mark.parametrize("attack", FENCED, ids=lambda attack: attack.name)
def test_the_fence_holds_without_the_check(attack: Attack, outcomes: Outcomes) -> None:
    """Past `check`, the attack fails or sees only the storage's own rows, within its time and 500 MB."""
    outcome = outcomes.by_attack["fenced", attack.text]
    error = outcome.get("error", "")
    assert re.search(attack.fenced or "^$", error), error
    assert {name for _, name in outcome.get("result", ())} <= {"MainThread"}
    assert outcome["seconds"] < DEADLINE_SECONDS + 1
    assert outcome["megabytes"] < 500


@pytest.mark.parametrize(("text", "error"), STATEMENTS)
def test_the_fence_refuses_whole_statements(text: str, error: str, outcomes: Outcomes) -> None:
    """A statement that is not a read of the storages fails on the fenced connection."""
    assert re.search(error, outcomes.by_attack["fenced statement", text].get("error", "ran"))


def test_attacks_change_nothing(outcomes: Outcomes) -> None:
    """After all attacks the database and the files around it are what they were."""
    assert outcomes.after == outcomes.before


@pytest.mark.parametrize(("mode", "text", "harm"), HARM)
def test_the_harness_sees_harm(mode: str, text: str, harm: str, tmp_path: Path) -> None:
    """Control: without the fence the same attacks do their harm, and these tests would notice."""
    outcomes = _run(tmp_path, [(mode, text)])
    seen = [outcomes.by_attack[mode, text], sorted(set(outcomes.after) - set(outcomes.before))]
    assert re.search(harm, json.dumps(seen))
