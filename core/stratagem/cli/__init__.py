"""The command line: ``stratagem map``, ``strategies`` and ``plugins``.

Nothing heavy is imported before ``main`` is called:
a worker process that starts from the console script imports this module too.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    from stratagem.cli.app import run_app  # noqa: PLC0415 - typer costs more than all the rest

    run_app()
