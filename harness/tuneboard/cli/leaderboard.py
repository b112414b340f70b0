"""``tuneboard leaderboard``: the site, on the local database or on a published snapshot."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from tuneboard.cli.options import file_path
from tuneboard.cli.streams import say
from tuneboard.errors import MissingExtra, UsageError

NAME = "leaderboard"
HELP = "the site: which candidate is best, against its base, and what changed"
EXAMPLES = """\
tuneboard leaderboard
tuneboard leaderboard --db results/nightly.duckdb --port 8600
tuneboard leaderboard --snapshot public --address 0.0.0.0 --base-url-path board      see: tuneboard publish --help"""

_PORTS = range(8501, 8600)
_THIS_MACHINE = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("--port", type=_port, metavar="P", help=f"port (default the first free one from {_PORTS[0]})")
    parser.add_argument(
        "--address",
        default=_THIS_MACHINE,
        metavar="A",
        help=f"address to listen on (default {_THIS_MACHINE}: this machine alone; 0.0.0.0: whoever reaches it)",
    )
    parser.add_argument(
        "--base-url-path", default="", metavar="PATH", help="path under which a proxy shows the site, such as board"
    )
    parser.add_argument(
        "--snapshot", type=file_path, metavar="DIR", help="show what `tuneboard publish --to DIR` wrote, not --db"
    )


def run(args: argparse.Namespace) -> int:
    """Become the site's server; raises ``MissingExtra`` or ``UsageError`` where it cannot start.

    A database that is missing or empty is no error: the site shows how to fill it, and itself as soon as it is.
    """
    from tuneboard.bundled import app_dir
    from tuneboard.store.snapshots import DATABASE_VARIABLE, SNAPSHOT_VARIABLE

    for package in ("streamlit", "pandas"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "site")
    for path, is_wrong, expected in (
        (args.db, Path(args.db).is_dir(), "a database file with --db"),
        (args.snapshot, args.snapshot is not None and args.snapshot.is_file(), "a folder with --snapshot"),
    ):
        if is_wrong:
            raise UsageError(f"'{path}' is a {'folder' if Path(path).is_dir() else 'file'}; give {expected}")
    port = _free_port(args.address, args.port)
    path = args.base_url_path.strip("/")
    os.environ[DATABASE_VARIABLE] = os.path.abspath(args.db)
    os.environ.pop(SNAPSHOT_VARIABLE, None)
    if args.snapshot is not None:
        os.environ[SNAPSHOT_VARIABLE] = os.path.abspath(args.snapshot)
    host = f"[{args.address}]" if ":" in args.address else args.address
    print(f"http://{host}:{port}/{path + '/' if path else ''}", flush=True)
    if not args.quiet:
        shown = Path(args.snapshot or args.db)
        say(f"The site shows {shown}{'' if shown.exists() else ' as soon as it is there'}; end it with Ctrl-C.")
    _become_server(app_dir() / "app.py", args.address, port, path)


def _become_server(app: Path, address: str, port: int, path: str) -> NoReturn:
    """Replace this process by Streamlit, so that signals reach it and nothing is left behind."""
    options = {
        "server.address": address,
        "server.port": str(port),
        "server.baseUrlPath": path,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "logger.level": "warning",
    }
    # -P: a file called pandas.py in the folder that somebody works in must not be taken for the package.
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(app)]
    command += [f"--{name}={value}" for name, value in options.items() if value]
    os.environ["STREAMLIT_LOGGER_HIDE_WELCOME_MESSAGE"] = "true"
    # The address stands on stdout; Streamlit's own words there are of no use to a program. Its errors go to stderr.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    os.execv(sys.executable, command)


def _free_port(address: str, wanted: int | None) -> int:
    """Return the wanted port, or the first free one; raises ``UsageError`` where none is to be had."""
    for port in _PORTS if wanted is None else [wanted]:
        try:
            family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
            with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
                return port
        except socket.gaierror as error:
            raise UsageError(
                f"cannot listen on '{address}': {error.strerror}; give an address of this machine with --address"
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE and wanted is None:
                continue
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise UsageError(
                f"port {port} on {address} {reason}; give another with --port, or an address of this machine"
            ) from error
    raise UsageError(f"all ports from {_PORTS[0]} to {_PORTS[-1]} on {address} are taken; give one with --port")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"'{text}' given, expected a port from 1 to 65535")
    return int(text)
