"""The engine of a command, whose plugins may warn in a line each."""

import warnings

from stratagem.cli.messages import say
from stratagem.engine import Engine

__all__ = ["open_engine"]


def open_engine(*, quiet: bool = False) -> Engine:
    """Make an engine, and say what went wrong with its plugins unless ``quiet``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine = Engine()
    for warning in [] if quiet else caught:
        say(f"warning: {warning.message}")
    return engine
