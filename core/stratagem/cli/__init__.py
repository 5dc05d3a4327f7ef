"""The command line: ``stratagem map``, ``strategies``, ``plugins`` and what looks into journals.

Nothing heavy is imported before ``main`` is called:
a worker process that starts from the console script imports this module too.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    from stratagem.cli.app import run_app  # noqa: PLC0415 - as said above

    run_app()
