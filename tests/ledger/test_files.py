"""The ledger as a file: what it is when it is no ledger, cannot be written, is full, or is copied."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from orbatch.ledger import Ledger, LedgerConflict, LedgerError
from orbatch.ledger.status import Status
from tests.ledger.books import Books, planned


def foreign(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.fixture
def permissions(tmp_path: Path) -> None:
    """Skips where they bind nobody, as for most superusers."""
    probe = tmp_path / "probe"
    probe.touch(stat.S_IRUSR)
    if os.access(probe, os.W_OK):
        pytest.skip("permissions do not bind this user")


# -- files that are no ledger -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"name: cats\nprompts: []\n" * 100, "is not a SQLite file", id="a text"),
        pytest.param(b"SQLite format 3\x00" + b"\xff" * 5000, "is not a SQLite file", id="a SQLite header and rubbish"),
        pytest.param(os.urandom(3), "is not a SQLite file", id="three bytes"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database_is_left_as_it_is(
    tmp_path: Path, content: bytes, message: str, create: bool
) -> None:
    path = tmp_path / "orbatch.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=message):
        Ledger.open(path, create=create)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("create table jobs (id integer primary key)", id="with tables"),
        pytest.param("pragma application_id = 7", id="empty, and of another application"),
    ],
)
def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "orbatch.db"
    foreign(path, statement)
    content = path.read_bytes()
    with pytest.raises(LedgerError, match="another program"):
        Ledger.open(path)
    assert path.read_bytes() == content


def test_a_ledger_of_a_newer_version_is_left_as_it_is(path: Path) -> None:
    foreign(path, "insert into _sqlite_migrations (migration_set, name, applied_at) values ('orbatch', 'm999_new', '')")
    content = path.read_bytes()
    with pytest.raises(LedgerError, match=r"newer orbatch \(it has m999_new\) .* Upgrade orbatch"):
        Ledger.open(path)
    assert path.read_bytes() == content


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is a directory"):
        Ledger.open(tmp_path)


def test_a_missing_ledger_is_made_only_when_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "orbatch.db"
    with pytest.raises(LedgerError, match="There is no ledger at"):
        Ledger.open(path, create=False)
    assert not path.parent.exists()
    Ledger.open(path).close()
    Ledger.open(path, create=False).close()


def test_a_ledger_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match=r"cannot be created: (Not a directory|File exists)"):
        Ledger.open(tmp_path / "file" / "orbatch.db")


def test_a_ledger_named_as_sqlite_names_memory_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Ledger.open(Path(":memory:")).close()
    assert (tmp_path / ":memory:").stat().st_size > 0


def test_a_damaged_ledger_says_so_and_is_not_written(books: Books, path: Path) -> None:
    books.plan(planned(str(number), position=number) for number in range(500))
    books.ledger.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xaa" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="is damaged"), Ledger.open(path) as ledger:
        list(ledger.reports.job_rows())
    assert path.read_bytes() == bytes(content)


# -- files that cannot be written -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("permissions")
def test_a_read_only_file_is_said_to_be_one(path: Path) -> None:
    path.chmod(stat.S_IRUSR)
    with pytest.raises(LedgerError, match="Make the file and its directory"), Ledger.open(path) as ledger:
        Books(ledger).plan([planned("a")])


@pytest.mark.usefixtures("permissions")
def test_a_read_only_folder_is_said_to_be_one(path: Path) -> None:
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(LedgerError, match="Make the file and its directory"), Ledger.open(path) as ledger:
            Books(ledger).plan([planned("a")])
    finally:
        path.parent.chmod(stat.S_IRWXU)


def test_a_ledger_that_may_not_be_written_is_said_to_be_read_only(books: Books) -> None:
    """The same for whoever is root, to whom no file is read-only."""
    job_id = books.one()
    with books.ledger.database.read() as db:
        db.execute("pragma query_only = on")
    with pytest.raises(LedgerError, match=r"cannot be written .* Make the file and its directory writable"):
        books.reserve(job_id)
    assert books.status(job_id) is Status.PENDING


def test_a_full_disk_stops_a_plan_with_a_sentence_and_changes_nothing(books: Books) -> None:
    batch = books.plan([planned("a")])
    with books.ledger.database.read() as db:
        db.execute("pragma wal_checkpoint(truncate)")
        db.execute(f"pragma max_page_count = {db.execute('pragma page_count').fetchone()[0]}")
    with pytest.raises(LedgerError, match=r"has no more room .* Free some disk space"):
        books.plan(planned(str(number), position=number) for number in range(500))
    assert len(books.job_ids(batch.id)) == 1
    with books.ledger.database.read() as db:
        db.execute("pragma max_page_count = 1000000")
    books.plan(planned(str(number), position=number) for number in range(500))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_disk_that_takes_no_more_in_the_middle_of_a_run_loses_nothing_that_was_recorded(path: Path) -> None:
    """In a process of its own, because a limit once set cannot be lifted."""
    program = """
        import resource, sys
        from pathlib import Path
        from orbatch.ledger import Ledger, LedgerError
        from tests.ledger.books import Books, planned
        with Ledger.open(Path(sys.argv[1])) as ledger:
            books = Books(ledger)
            books.plan_and_claim(planned(str(n), position=n) for n in range(100))
            wal = Path(sys.argv[1] + "-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 60_000, resource.RLIM_INFINITY))
            reserved = 0
            try:
                for job_id in books.job_ids():
                    books.reserve(job_id)
                    reserved += 1
            except LedgerError as exc:
                print(reserved, exc)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path)], capture_output=True, text=True, timeout=60
    )
    count, _, message = result.stdout.partition(" ")
    assert "Check the disk and its free space" in message, result.stderr
    with Ledger.open(path) as ledger:
        counts = ledger.queries.counts(1)
        assert counts[Status.SUBMITTING] == int(count) < 100
        assert ledger.reports.spend(1) == (0, int(count) * 400_000_000)


def test_a_ledger_that_another_program_has_locked_is_waited_for_and_then_named(books: Books, path: Path) -> None:
    job_id = books.one()
    with books.ledger.database.read() as db:
        db.execute("pragma busy_timeout = 1")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("begin immediate")
    try:
        with pytest.raises(LedgerError, match="stayed locked by another program"):
            books.reserve(job_id)
        assert books.status(job_id) is Status.PENDING  # reading goes on
    finally:
        blocker.close()


def test_a_conflict_is_told_from_a_ledger_that_cannot_be_used() -> None:
    assert issubclass(LedgerConflict, LedgerError)


def test_several_processes_may_make_the_same_ledger_at_once(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from orbatch.ledger import Ledger
        sys.stdin.readline()
        Ledger.open(Path(sys.argv[1])).close()
    """
    path = tmp_path / "orbatch.db"
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    makers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    ends = [maker.communicate(b"go\n", timeout=60) for maker in makers]
    assert [maker.returncode for maker in makers] == [0] * 4, ends
    Ledger.open(path, create=False).close()


# -- copies -----------------------------------------------------------------------------------------------------------


def test_a_backup_has_everything_that_is_committed_also_while_a_run_writes(books: Books, path: Path) -> None:
    job_id = books.one()
    books.bring_to(job_id, Status.DONE, cost_nusd=5)
    target = path.with_name("copy.db")
    with Ledger.open(path) as other:
        other.database.backup(target)
    assert sorted(file.name for file in path.parent.iterdir() if "copy" in file.name) == ["copy.db"]
    with Ledger.open(target, create=False) as copy:
        assert copy.reports.spend(1) == (5, 0)
        assert copy.queries.job(job_id) == books.ledger.queries.job(job_id)


def test_a_backup_never_replaces_a_file(books: Books, path: Path) -> None:
    target = path.with_name("copy.db")
    target.write_bytes(b"precious")
    with pytest.raises(LedgerError, match="exists and was not changed"):
        books.ledger.database.backup(target)
    assert target.read_bytes() == b"precious"


def test_a_backup_that_cannot_be_written_says_where(books: Books, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"backup .*nowhere.* cannot be written: No such file or directory"):
        books.ledger.database.backup(tmp_path / "nowhere" / "copy.db")


def test_a_backup_that_breaks_off_leaves_no_half_copy(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    class Unwritable(sqlite3.Connection):
        def execute(self, *arguments: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs, factory=Unwritable))
    with pytest.raises(LedgerError, match=r"The backup .*copy\.db failed: disk I/O error"):
        books.ledger.database.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
