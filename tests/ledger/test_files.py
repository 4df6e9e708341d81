"""The ledger as a file: what it is when it is no ledger, cannot be written, is full, or is copied."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from orbatch.ledger import Ledger, LedgerConflict, LedgerError, Status
from tests.ledger.books import Books, in_order, planned

WRITABLE = "Make the file and its directory"


@pytest.fixture
def permissions(tmp_path: Path) -> None:
    """Skips where they bind nobody, as for most superusers."""
    probe = tmp_path / "probe"
    probe.touch(stat.S_IRUSR)
    if os.access(probe, os.W_OK):
        pytest.skip("permissions do not bind this user")


# -- files that are no ledger -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"name: cats\nprompts: []\n" * 100, id="a text"),
        pytest.param(b"SQLite format 3\x00" + b"\xff" * 5000, id="a SQLite header and rubbish"),
        pytest.param(os.urandom(3), id="three bytes"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path, content: bytes, create: bool) -> None:
    path = tmp_path / "orbatch.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="is not a SQLite file"):
        Ledger.open(path, create=create)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("is_ledger", "statement", "message"),
    [
        pytest.param(False, "create table jobs (id integer primary key)", "another program", id="other tables"),
        pytest.param(False, "pragma application_id = 7", "another program", id="empty, and of another application"),
        pytest.param(
            True,
            "insert into _sqlite_migrations (migration_set, name, applied_at) values ('orbatch', 'm999_new', '')",
            r"newer orbatch \(it has m999_new\) .* Upgrade orbatch",
            id="a newer version",
        ),
    ],
)
def test_a_database_of_another_program_or_version_is_left_as_it_is(
    path: Path, is_ledger: bool, statement: str, message: str
) -> None:
    if not is_ledger:
        path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    content = path.read_bytes()
    with pytest.raises(LedgerError, match=message):
        Ledger.open(path)
    assert path.read_bytes() == content


def test_a_missing_ledger_is_made_only_when_it_is_wanted_and_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "deep" / "orbatch.db"
    with pytest.raises(LedgerError, match="There is no ledger at"):
        Ledger.open(path, create=False)
    assert not path.parent.exists()
    Ledger.open(path).close()
    Ledger.open(path, create=False).close()
    with pytest.raises(LedgerError, match="is a directory"):
        Ledger.open(tmp_path)
    with pytest.raises(LedgerError, match=r"cannot be created: (Not a directory|File exists)"):
        Ledger.open(path / "orbatch.db")
    monkeypatch.chdir(tmp_path)
    Ledger.open(Path(":memory:")).close()  # as SQLite names a database that is kept nowhere
    assert (tmp_path / ":memory:").stat().st_size > 0


def test_a_damaged_ledger_says_so_and_is_not_written(books: Books, path: Path) -> None:
    books.plan(in_order(range(500)))
    books.ledger.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xaa" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="is damaged"), Ledger.open(path) as ledger:
        list(ledger.reports.job_rows())
    assert path.read_bytes() == bytes(content)


# -- files that cannot be written -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_what_is_read_only_is_said_to_be_so(path: Path, is_folder: bool) -> None:
    target, rights = (path.parent, stat.S_IRUSR | stat.S_IXUSR) if is_folder else (path, stat.S_IRUSR)
    target.chmod(rights)
    try:
        with pytest.raises(LedgerError, match=WRITABLE), Ledger.open(path) as ledger:
            Books(ledger).plan([planned("a")])
    finally:
        target.chmod(stat.S_IRWXU)


def test_a_ledger_that_may_not_be_written_is_said_to_be_read_only(books: Books) -> None:
    """The same for whoever is root, to whom no file is read-only."""
    job_id = books.one()
    books.database.rows("pragma query_only = on")
    with pytest.raises(LedgerError, match=f"cannot be written .* {WRITABLE} writable"):
        books.reserve(job_id)
    assert books.status(job_id) is Status.PENDING


def test_a_full_disk_stops_a_plan_with_a_sentence_and_changes_nothing(books: Books) -> None:
    books.plan([planned("a")])
    books.database.rows("pragma wal_checkpoint(truncate)")
    [(pages,)] = books.database.rows("pragma page_count")
    books.database.rows(f"pragma max_page_count = {pages}")
    with pytest.raises(LedgerError, match=r"has no more room .* Free some disk space"):
        books.plan(in_order(range(500)))
    assert len(books.job_ids()) == 1
    books.database.rows("pragma max_page_count = 1000000")
    books.plan(in_order(range(500)))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_disk_that_takes_no_more_in_the_middle_of_a_run_loses_nothing_that_was_recorded(path: Path) -> None:
    """In a process of its own, because a limit once set cannot be lifted."""
    program = """
        import resource, sys
        from pathlib import Path
        from orbatch.ledger import Ledger, LedgerError
        from tests.ledger.books import Books, in_order
        with Ledger.open(Path(sys.argv[1])) as ledger:
            books = Books(ledger)
            job_ids = books.plan_and_claim(in_order(range(100)))
            wal = Path(sys.argv[1] + "-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 60_000, resource.RLIM_INFINITY))
            reserved = 0
            try:
                for job_id in job_ids:
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
    books.database.rows("pragma busy_timeout = 1")
    with closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("begin immediate")
        with pytest.raises(LedgerError, match="stayed locked by another program") as raised:
            books.reserve(job_id)
        assert not isinstance(raised.value, LedgerConflict)  # which is for a row that was moved meanwhile
        assert books.status(job_id) is Status.PENDING  # reading goes on


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
        assert copy.queries.job(job_id) == books.queries.job(job_id)


def test_a_backup_says_where_it_cannot_be_written(books: Books, path: Path) -> None:
    with pytest.raises(LedgerError, match=r"backup .*nowhere.* cannot be written: No such file or directory"):
        books.database.backup(path.parent / "nowhere" / "copy.db")


def test_a_backup_that_breaks_off_leaves_no_half_copy(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    class Unwritable(sqlite3.Connection):
        def execute(self, *arguments: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs, factory=Unwritable))
    with pytest.raises(LedgerError, match=r"The backup .*copy\.db failed: disk I/O error"):
        books.database.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("mode", [0o555, 0o755], ids=["and its directory", "alone"])
def test_a_read_only_ledger_can_be_read_and_says_what_it_is_when_written(books: Books, path: Path, mode: int) -> None:
    books.bring_to(books.one(), Status.DONE, cost_nusd=5)
    books.ledger.close()
    path.chmod(0o400)
    path.parent.chmod(mode)
    try:
        with Ledger.open(path, create=False) as ledger:
            assert ledger.reports.spend(1) == (5, 0)
            with pytest.raises(LedgerError, match="cannot be written"), ledger.database.write():
                pass
    finally:
        path.parent.chmod(0o755)


def test_a_damaged_page_is_noticed_before_anything_is_bought(books: Books, path: Path) -> None:
    books.several(200)
    books.ledger.close()
    content = bytearray(path.read_bytes())
    for page in range(len(content) // 4096 // 2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = os.urandom(64)
    path.write_bytes(content)
    with Ledger.open(path) as ledger, pytest.raises(LedgerError, match=r"(?s)is damaged .*receipts beside the outputs"):
        ledger.database.check_whole()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
def test_what_orbatch_makes_is_for_the_user_alone(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "new.db") as ledger:
        ledger.database.backup(tmp_path / "copy.db")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("new.db", "new.db-wal", "new.db-shm", "copy.db"), 0o600)
