"""Settings: where they come from, which comes first, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtwin.errors import InputError
from llmtwin.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LLMTWIN_{name.upper()}", raising=False)
    monkeypatch.setenv("LLMTWIN_HOME", str(tmp_path))
    return tmp_path


def test_everything_lies_under_the_home(home: Path) -> None:
    settings = read_settings()
    assert settings.home == home
    assert {settings.edge_folder.parent, settings.server_folder.parent, settings.cache_folder.parent} == {
        home
    }


def test_what_is_given_beats_the_environment_and_that_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.toml").write_text('port = 1001\nbase = "file"\nengine = "echo"\n')
    monkeypatch.setenv("LLMTWIN_PORT", "1002")
    monkeypatch.setenv("LLMTWIN_BASE", "environment")
    settings = read_settings(port=1003, base=None)
    assert (settings.port, settings.base, settings.engine) == (1003, "environment", "echo")


def test_an_empty_variable_is_none_and_a_tilde_is_the_persons_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTWIN_SERVER", "")
    monkeypatch.setenv("LLMTWIN_CACHE", "~/bases")
    settings = read_settings()
    assert settings.server is None
    assert settings.cache_folder == Path.home() / "bases"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("port = 0", "port"),
        ("port = 'eight'", "port"),
        ("engine = 'steam'", "engine"),
        ("colour = 'red'", "colour"),
        ("audit_max = { rank_100 = 'low' }", "audit_max"),
        ("audit_max = { rank_100 = nan }", "audit_max"),
        ("port = ", "config.toml"),
        ("[[[", "config.toml"),
    ],
)
def test_a_wrong_setting_is_named(home: Path, content: str, said: str) -> None:
    (home / "config.toml").write_text(content)
    with pytest.raises(InputError, match=said):
        read_settings()


def test_a_file_that_is_not_text_is_named(home: Path) -> None:
    (home / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"config\.toml"):
        read_settings()


def test_a_table_of_limits_is_read_from_file_and_environment_and_stays_frozen(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_settings().audit_max == ()
    (home / "config.toml").write_text("audit_max = { rank_100 = 0.05, forward = 1 }\n")
    assert dict(read_settings().audit_max) == {"rank_100": 0.05, "forward": 1.0}
    assert hash(read_settings()) == hash(read_settings())
    monkeypatch.setenv("LLMTWIN_AUDIT_MAX", '{"reverse": 0.5}')
    assert dict(read_settings().audit_max) == {"rank_100": 0.05, "forward": 1.0, "reverse": 0.5}, "both hold"
