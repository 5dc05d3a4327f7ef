"""Which strategy runs when the call names none: environment, project file, default."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from stratagem.errors import ConfigurationError

__all__ = ["Configuration", "read_configuration"]

DEFAULT_STRATEGY = "threads"
VARIABLE = "STRATAGEM_STRATEGY"
_KEYS = {"strategy"}


@attrs.frozen
class Configuration:
    """Hold the strategy that was configured, and where.

    Attributes:
        strategy: a spec, as text or as a table.
        origin: the variable or the file it comes from, ``"default"`` for none.
        is_of_project: whether that is a file, which may have come with a download.
    """

    strategy: str | Mapping[str, Any]
    origin: str
    is_of_project: bool = attrs.field(default=False, kw_only=True, eq=False)


def read_configuration(
    directory: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Configuration:
    """Find the strategy that is configured for a directory.

    ``STRATAGEM_STRATEGY`` goes first; then the nearest ``stratagem.toml`` or ``pyproject.toml``
    with a table ``[tool.stratagem]``, upward from ``directory`` (the current one by default);
    then ``threads``.

    Raises:
        ConfigurationError: the file cannot be read, or has a setting that is none.
    """
    named = environ.get(VARIABLE, "").strip()
    if named:
        return Configuration(named, VARIABLE)
    start = Path.cwd() if directory is None else directory
    for folder in (start, *start.parents):
        for path in (folder / "stratagem.toml", folder / "pyproject.toml"):
            table = _table(path)
            if table is not None:
                return _configured(table, path)
    return Configuration(DEFAULT_STRATEGY, "default")


def _table(path: Path) -> dict[str, Any] | None:
    import tomllib  # noqa: PLC0415 - most runs read no file

    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if path.name == "pyproject.toml" and "tool.stratagem" not in text:
            return None
        raise ConfigurationError(f"{path}: {error}") from error
    tool = document.get("tool", {})
    if not isinstance(tool, Mapping):
        raise ConfigurationError(f"{path}: tool must be a table")
    table: dict[str, Any] | None = tool.get("stratagem")
    if table is None and path.name == "stratagem.toml":
        table = {key: value for key, value in document.items() if key != "tool"}
    return table


def _configured(table: object, path: Path) -> Configuration:
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{path}: tool.stratagem must be a table")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ConfigurationError(
            f"{path}: unknown setting {', '.join(map(repr, unknown))} of stratagem; "
            f"the settings are: {', '.join(sorted(_KEYS))}"
        )
    strategy = table.get("strategy", DEFAULT_STRATEGY)
    if not isinstance(strategy, str | Mapping):
        raise ConfigurationError(
            f'{path}: strategy must be text or a table, such as strategy = "threads"'
        )
    return Configuration(strategy, str(path), is_of_project=True)
