"""The run of ``stratagem map``: its parts put together, and its exit code."""

import logging
import shlex
import signal
import sys
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import attrs

from stratagem.cli.engines import open_engine
from stratagem.cli.formats import Format
from stratagem.cli.functions import load_function
from stratagem.cli.inputs import Input, open_input
from stratagem.cli.messages import (
    EXIT_BAD_INPUT,
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    EXIT_TASKS_FAILED,
    EXIT_UNWRITABLE,
    CommandError,
    say,
)
from stratagem.cli.ordering import InOrder
from stratagem.cli.output import (
    LineWriter,
    OutputError,
    open_output,
    refuse_same_file,
    refuse_same_path,
)
from stratagem.cli.records import encode, line_of, record_of
from stratagem.cli.standard import fill_standard_descriptors, take_stdout
from stratagem.cli.tally import Tally
from stratagem.engine import Engine, Options
from stratagem.errors import RunInterrupted, StratagemError
from stratagem.signals import interruptible
from stratagem.snapshot import stopping
from stratagem.stream import Stream
from stratagem.task import Outcome
from stratagem.terminal import authentication_failed

__all__ = ["MapRequest", "run_map"]


def _format_named(word: str | None) -> Format | None:
    return None if word is None else Format(word)


@attrs.frozen
class MapRequest:
    """Hold what the command line asks for; see ``stratagem map --help``."""

    function: str
    input: str
    output: str = "-"
    strategy: str | None = None
    format: Format | None = attrs.field(default=None, converter=_format_named)
    key: str | None = None
    tag: list[str] | None = None
    timeout: float | None = None
    max_errors: int | None = None
    stop_on_auth: bool = False
    limit: int | None = None
    log: str | None = None
    progress: bool | None = None
    journal: str | None = None
    resume: bool | None = None
    unordered: bool = False
    quiet: bool = False


def run_map(request: MapRequest) -> int:
    """Map, and give the exit code.

    Raises:
        CommandError: the run cannot begin, its input is bad, or its output cannot be written.
    """
    if request.resume is not None and request.journal is None:
        raise CommandError("--resume needs the journal to go on with: --journal FILE")
    fill_standard_descriptors()
    kept = take_stdout() if request.output == "-" else None
    function = load_function(request.function)
    source = open_input(request.input, request.format)
    refuse_same_file(source.file.fileno(), request.output if kept is None else kept)
    if request.journal is not None and kept is None:
        refuse_same_path(request.journal, request.output)
    with open_engine() as engine:
        stream = _open_stream(engine, function, source, request)
        with stream:
            descriptor = open_output(request.output) if kept is None else kept
            delivery = _Delivery(stream, LineWriter(descriptor, stream.stop), request)
            return delivery.finish()


def _open_stream(
    engine: Engine, function: Callable[[Any], Any], source: Input, request: MapRequest
) -> Stream:
    options: Options = {
        "strategy": request.strategy,
        "max_errors": request.max_errors,
        "stop_on": authentication_failed if request.stop_on_auth else None,
        "timeout": request.timeout,
        "key": None if request.key is None else itemgetter(request.key),
        "tags": request.tag,
        "log": request.log,
        "progress": _wants_progress(request),
        "keep": 0,  # what is written needs no memory
    }
    if request.journal is not None:
        options |= {"journal": request.journal, "resume": request.resume}
    items = source.items(request.key, request.limit)
    if request.log is None:  # the summary says what failed; a line a task would bury it
        logging.getLogger("stratagem").setLevel(logging.ERROR)
        for name in ("stratagem.watch", "stratagem.journal"):
            logging.getLogger(name).setLevel(logging.ERROR if request.quiet else logging.WARNING)
    try:
        stream = engine.stream_map(function, items, **options)
    except (StratagemError, ValueError, TypeError) as error:
        why = "; ".join([str(error), *getattr(error, "__notes__", ())])
        raise CommandError(why, getattr(error, "exit_code", EXIT_BAD_INPUT)) from error
    if options["progress"]:
        stream.run.total = _total(source, request.limit)
    return stream


def _wants_progress(request: MapRequest) -> bool:
    if request.progress is not None:
        return request.progress
    return not request.quiet and sys.stderr is not None and sys.stderr.isatty()


def _total(source: Input, limit: int | None) -> int | None:
    total = source.count()
    return total if total is None or limit is None else min(total, limit)


class _Delivery:
    """Read a stream to its end, write a line for each outcome, and say what it came to."""

    def __init__(self, stream: Stream, writer: LineWriter, request: MapRequest) -> None:
        self._stream = stream
        self._writer = writer
        self._request = request
        self._tally = Tally()
        self._shows_progress = _wants_progress(request)
        self._hurried = False
        self._order = None if request.unordered else InOrder(writer.write)

    def finish(self) -> int:
        """Give the exit code."""
        try:
            self._run()
        except OutputError as error:
            return self._explain(error)
        except RunInterrupted as interruption:
            name = signal.Signals(interruption.signum).name
            self._say_summary(f"interrupted by {name}" + ", twice" * self._hurried)
            self._say_how_to_go_on()
            return 128 + interruption.signum
        except KeyboardInterrupt:
            self._say_summary("interrupted")
            self._say_how_to_go_on()
            return EXIT_INTERRUPTED
        except (CommandError, StratagemError) as error:
            is_input = error.exit_code == EXIT_BAD_INPUT
            self._say_summary("stopped by bad input" if is_input else "stopped")
            say(str(error))
            if error.exit_code == EXIT_UNWRITABLE:
                self._say_how_to_go_on()
            return error.exit_code
        report = self._stream.report
        self._say_summary(report.reason or _REASONS.get(report.stopped or ""))
        if report.stopped is not None:
            self._say_how_to_go_on()
        return EXIT_TASKS_FAILED if self._tally.failed else 0

    def _run(self) -> None:
        with interruptible(self):
            try:
                self._deliver_all()
            finally:
                self._deliver_rest()

    @property
    def ending(self) -> bool:
        """Tell whether the run needs no push to end."""
        return self._stream.ending

    def interrupt(self, signum: int) -> None:
        """Begin no further task, and say what is waited for."""
        self._stream.interrupt(signum)
        if not (self._request.quiet or self._shows_progress):
            say(stopping(self._stream.run.snapshot(), "interrupted"))

    def hurry(self) -> None:
        """Wait for no task any more."""
        self._hurried = True
        self._stream.hurry()

    def _deliver_all(self) -> None:
        for outcome in self._stream:
            self._deliver(outcome)

    def _deliver(self, outcome: Outcome) -> None:
        line = line_of(outcome)
        if line is None:
            record, line = encode(record_of(outcome))
            self._tally.add(record)
        else:
            self._tally.ok += 1
        if self._order is None:
            self._writer.write(line)
        else:
            self._order.add(outcome.index, line)

    def _deliver_rest(self) -> None:
        """Write what ended while the run was being stopped, and what waited for its turn."""
        self._stream.close()
        try:
            for outcome in self._stream.report:
                self._deliver(outcome)
            if self._order is not None:
                self._order.release()
        finally:
            self._writer.close()

    def _explain(self, failure: OutputError) -> int:
        cause = failure.__cause__
        if isinstance(cause, BrokenPipeError):
            return EXIT_BROKEN_PIPE
        where = "stdout" if self._request.output == "-" else self._request.output
        self._say_summary("stopped")
        say(f"{where} cannot be written: {getattr(cause, 'strerror', None) or cause}")
        self._say_how_to_go_on()
        return EXIT_BAD_INPUT

    def _say_how_to_go_on(self) -> None:
        if self._request.quiet or self._request.journal is None:
            return
        given = [word for word in sys.argv[1:] if word not in {"--resume", "--no-resume"}]
        say(f"go on with: {shlex.join(['stratagem', *given, '--resume'])}")

    def _say_summary(self, stopped: str | None) -> None:
        if self._request.quiet:
            return
        say(self._tally.summary(self._stream.report.seconds, stopped))
        for failure in self._tally.failures():
            say(failure)


_REASONS = {"max_errors": "stopped by --max-errors"}
