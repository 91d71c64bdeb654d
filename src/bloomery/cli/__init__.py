"""The command line: what an error looks like, and which exit code it has. The only place that prints.

Exit codes: 0 passed, 1 a gate failed, 2 bad input, 3 stopped by budget, 130 and 143 interrupted. An error of the user's
is one clear message on stderr, never a traceback.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType

from bloomery.errors import BloomeryError

ENVIRONMENT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG)
"""What the machine refuses is for its user to mend: no traceback."""


class Interrupted(BaseException):
    """Ctrl-C where nothing has to be saved."""


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BloomeryError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except Interrupted:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        code = 0
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read us has seen enough
    except OSError as error:
        if error.errno not in ENVIRONMENT:
            raise
        print(f"error: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
        code = 2
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    if arguments in (["plans"], ["plans", "--json"]):
        # Typer takes a tenth of a second to read these two words, more than the verb itself.
        from bloomery.cli import planning

        planning.plans(as_json="--json" in arguments)
        return 0
    from bloomery.cli.verbs import app, usage_error

    try:
        code = app(arguments, standalone_mode=False)
    except usage_error as error:
        error.show()
        return error.exit_code
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # which typer takes for a failure
            raise end.__context__ from None
        raise
    return code if isinstance(code, int) else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted
