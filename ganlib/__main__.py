"""The command line: python -m ganlib."""

import sys

from ganlib.cli.ending import exit_status


def main(argv=None):
    """Run one command and return the exit status."""

    def command():
        from ganlib.cli.arguments import parser  # here, so that Ctrl-C is handled during its slow imports

        args = parser().parse_args(argv)
        _function(args.command)(args)

    return exit_status(command)


def _function(command):
    """The function of a command. Its module is imported only now, so that --help does not wait for torch."""
    if command in ("compress", "decompress"):
        from ganlib.cli import coding as commands
    else:
        from ganlib.cli import commands
    return getattr(commands, command)


if __name__ == "__main__":
    sys.exit(main())
