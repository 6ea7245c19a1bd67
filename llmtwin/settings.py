"""The person's choices: a TOML file and the environment, read once and frozen. It does nothing itself."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from llmtwin.errors import InputError

HOME = "~/.llmtwin"
Folder = Annotated[Path, AfterValidator(Path.expanduser)]


def _pairs(table: Any) -> Any:
    return tuple(table.items()) if isinstance(table, dict) else table


Limit = Annotated[float, Field(allow_inf_nan=False)]
Limits = Annotated[tuple[tuple[str, Limit], ...], BeforeValidator(_pairs)]
"""A table of numbers by name, in a form that is frozen."""


class Settings(BaseSettings):
    """All settings. Each can stand in `config.toml` of the data folder, or be an LLMTWIN_<NAME> variable.

    `server` is the address of the server; without it the server's app runs within the process, over the
    data folder. `base` is a model folder, a .gguf file or a Hugging Face id; without it, the bundled one.
    `audit_max` is the most that figures of an audit may be, by their names on a card without the `audit_`:
    the server takes no adapter that is above, or that was not audited.
    """

    model_config = SettingsConfigDict(
        env_prefix="LLMTWIN_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    home: Folder = Field(default=Path(HOME), validate_default=True)
    server: str | None = None
    base: str | None = None
    cache: Folder | None = None
    engine: Literal["torch", "echo"] = "torch"
    host: str = "127.0.0.1"
    port: int = Field(default=8420, ge=1, le=65535)
    cohort_size_min: int = Field(default=3, ge=1)
    audit_max: Limits = ()

    @property
    def edge_folder(self) -> Path:
        """Where everything private of the twins lies, a folder each."""
        return self.home / "edge"

    @property
    def server_folder(self) -> Path:
        """Where the server keeps its data."""
        return self.home / "server"

    @property
    def cache_folder(self) -> Path:
        """Where dequantised bases are kept."""
        return self.cache or self.home / "cache"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in code comes first, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _file())


def read_settings(**given: Any) -> Settings:
    """The settings as they are now; what is given here, and is not None, comes first.

    Raises InputError with the name of a setting that is wrong.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"the setting `{name}` is wrong (in {_file()} or LLMTWIN_{name.upper()}): {first['msg']}"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{_file()} cannot be read: {error}") from error


def _file() -> Path:
    return Path(os.environ.get("LLMTWIN_HOME") or HOME).expanduser() / "config.toml"
