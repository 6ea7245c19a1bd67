"""Reading a person's repositories with the real git: their commits, and documents nobody else has changed."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmtwin.errors import Unavailable
from llmtwin.twins.person.sources.git import read_commits
from llmtwin.twins.person.sources.items import Collected, Me
from llmtwin.twins.person.sources.read import read
from tests.person_sources import ANN, NOBODY, STYLE, reasons

BOB = {"name": "Bob", "address": "bob@example.org"}


@pytest.fixture(autouse=True)
def settings_of_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of who runs the tests count."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def git(folder: Path, *arguments: str, name: str = "Ann Lee", address: str = "ann@example.org") -> None:
    who = {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": address,
        "GIT_COMMITTER_NAME": "x",
        "GIT_COMMITTER_EMAIL": "x",
    }
    when = {"GIT_AUTHOR_DATE": "2024-05-01T10:00:00+02:00", "GIT_COMMITTER_DATE": "2024-05-01T10:00:00+02:00"}
    subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, **who, **when},
    )


def commit(folder: Path, message: str, files: dict[str, str] | None = None, **who: str) -> None:
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "--allow-empty", "-m", message, **who)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def documents(found: Collected) -> dict[str, str]:
    return {Path(item.address).name: item.text for item in found.items if item.audience == "docs"}


def commits(found: Collected) -> list[str]:
    return [item.text for item in found.items if item.audience == "commit"]


def test_ones_own_commit_messages_are_items_without_trailers(repository: Path) -> None:
    message = f"It's a subject\n\n{STYLE}\n\n- a list: it's kept\n"
    commit(
        repository,
        f"{message}\nSigned-off-by: Ann Lee <ann@example.org>\nCo-authored-by: Bob <bob@example.org>",
    )
    commit(repository, "His", **BOB)
    commit(repository, 'Revert "His"\n\nThis reverts commit 0123456789abcdef.')
    found = read([repository], ANN)
    assert commits(found) == ['Revert "His"', message.strip()]
    item = found.items[-1]
    assert (item.title, item.source) == ("It's a subject", "git") and item.address.startswith("project@")
    assert item.date == datetime(2024, 5, 1, 8, tzinfo=UTC)


def test_a_clone_elsewhere_has_the_same_commits(repository: Path, tmp_path: Path) -> None:
    commit(repository, "Mine")
    git(tmp_path, "clone", "-q", str(repository), str(tmp_path / "other" / "project"))
    assert len(commits(read([repository, tmp_path / "other"], ANN))) == 1


def test_documents_that_others_have_changed_are_not_ones_own(repository: Path) -> None:
    commit(
        repository,
        "One",
        {"mine.md": "mine", "docs/both.rst": "both", "moved.md": "m" * 99, "code.py": "x = 1"},
    )
    commit(
        repository,
        "Two",
        {"docs/both.rst": "both, and his", "his.md": "his", "moved.md": "m" * 99 + "his"},
        **BOB,
    )
    git(repository, "mv", "moved.md", "renamed.md")
    commit(repository, "Three", {"his.md": "his, and mine", "LICENSE.md": "MIT"})
    found = read([repository], ANN)
    assert documents(found) == {"mine.md": "mine"}
    assert reasons(found) == {
        "both.rst": "it is also by Bob",
        "his.md": "it is also by Bob",
        "renamed.md": "it is also by Bob",
        "LICENSE.md": "a licence or code of conduct is nobody's own words",
    }


def test_a_document_begun_anew_by_the_person_is_theirs(repository: Path) -> None:
    commit(repository, "One", {"a.md": "his"}, **BOB)
    git(repository, "rm", "-q", "a.md")
    commit(repository, "Two", **BOB)
    commit(repository, "Three", {"a.md": "mine"})
    assert documents(read([repository], ANN)) == {"a.md": "mine"}


def test_documents_are_read_as_they_lie_in_the_working_tree(repository: Path) -> None:
    commit(repository, "One", {"a.md": "old", "gone.md": "gone", ".gitignore": "ignored.md\n"})
    (repository / "a.md").write_text(STYLE)
    (repository / "new.MD").write_text("new")
    (repository / "ignored.md").write_text("ignored")
    (repository / "gone.md").unlink()
    (repository / "link.md").symlink_to(repository / "a.md")
    found = read([repository], ANN)
    assert documents(found) == {"a.md": STYLE, "new.MD": "new"}
    assert [item.date for item in found.items if item.audience == "docs"] == [
        datetime(2024, 5, 1, 8, tzinfo=UTC),
        None,
    ]
    assert reasons(found) == {
        "gone.md": "it cannot be read: No such file or directory",
        "link.md": "it is a link, and links are not followed",
    }


def test_the_person_is_who_commits_here_where_nothing_is_known(repository: Path) -> None:
    commit(repository, "Mine")
    commit(repository, "His", **BOB)
    assert "it is not clear who you are" in reasons(read([repository], NOBODY))["project"]
    git(repository, "config", "user.email", "Ann@example.org")
    assert commits(read([repository], NOBODY)) == ["Mine"]


def test_a_repository_within_a_folder_is_read_as_one(repository: Path) -> None:
    commit(repository, "Mine", {"a.md": "in git"})
    (repository.parent / "note.md").write_text("a note")
    found = read([repository.parent], ANN)
    assert [(item.source, item.text) for item in found.items] == [
        ("notes", "a note"),
        ("git", "Mine"),
        ("git", "in git"),
    ]


def test_a_name_with_a_line_end_or_an_option_is_only_a_name(repository: Path) -> None:
    commit(repository, "Mine", {"-v\n.md": "mine"})
    assert documents(read([repository], ANN)) == {"-v\n.md": "mine"}
    assert commits(read([repository], Me(names=("--output=x", "Ann Lee")))) == ["Mine"]
    assert not (repository / "x").exists()


def test_no_setting_of_a_repository_runs_a_program(repository: Path, tmp_path: Path) -> None:
    commit(repository, "Mine", {"a.md": "mine"})
    run = tmp_path / "run.sh"
    run.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    run.chmod(0o700)
    for setting in (
        "core.fsmonitor",
        "core.pager",
        "pager.log",
        "diff.external",
        "gpg.program",
        "core.sshCommand",
    ):
        git(repository, "config", setting, str(run))
    git(repository, "config", "log.showSignature", "true")
    (repository / ".gitattributes").write_text("*.md diff=evil filter=evil\n")
    git(repository, "config", "diff.evil.textconv", str(run))
    git(repository, "config", "filter.evil.clean", str(run))
    (tmp_path / "was-run").unlink(missing_ok=True)
    assert documents(read([repository], ANN)) == {"a.md": "mine"}
    assert not (tmp_path / "was-run").exists()


# ---- bad input -----------------------------------------------------------------------------------


def test_a_repository_without_commits_is_read(repository: Path) -> None:
    (repository / "a.md").write_text("mine")
    assert documents(read([repository], ANN)) == {"a.md": "mine"}


def test_a_broken_repository_is_named_and_the_one_around_it_is_not_taken(repository: Path) -> None:
    commit(repository, "Mine", {"a.md": "mine"})
    (repository / "inner").mkdir()
    (repository / "inner" / ".git").write_text("no repository")
    found = read([repository / "inner"], ANN)
    assert not found.items and "git cannot read it" in reasons(found)["inner"]


def test_a_history_that_is_cut_off_gives_commits_alone(repository: Path, tmp_path: Path) -> None:
    commit(repository, "His", {"a.md": "his"}, **BOB)
    commit(repository, "Mine", {"a.md": "his, changed"})
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", str(tmp_path / "shallow"))
    found = read([tmp_path / "shallow"], ANN)
    assert commits(found) == ["Mine"] and not documents(found)
    assert "its history is cut off" in reasons(found)["shallow"]


def test_a_machine_without_git_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match="there is no git"):
        read_commits(repository, ANN)
    assert "there is no git" in reasons(read([repository], ANN))["project"]
