"""Where the command `onebook` begins: until its parts are imported, Ctrl-C simply ends it.

A KeyboardInterrupt in the middle of an import can get lost in somebody's `except`; nothing has been started by then.
"""

import signal


def run() -> None:
    """The console script's entry."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not so in a background job
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli.main import run as run_command

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command()


if __name__ == "__main__":
    run()
