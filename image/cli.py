"""`sampan image …`: the command line over image.build.

shim/cli/main.py hands its `image` arguments to main(); `python3 -m image` is the same.
Prints progress and errors for a person on stderr, the result on stdout.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Final

from image.build import BuildOptions, build_image
from image.errors import ImageError

DEFAULT_OUTPUT: Final = Path("/var/lib/sampan/image")
DEFAULT_CACHE: Final = Path("/var/cache/sampan/image")
TUNED: Final = "tuned"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sampan image", description="the guest image")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser(
        "build",
        help="make the image, or bring it up to date",
        description="Makes DIR/vmlinux, DIR/root and DIR/manifest.json from Debian packages and"
        " PyPI wheels. Does nothing when no input has changed.",
    )
    build.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, metavar="DIR")
    build.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR")
    build.add_argument(
        "--kernel",
        metavar="FILE|tuned",
        help="a vmlinux or bzImage instead of Debian's, or `tuned`: one compiled here from"
        " Debian's source, with what containers need and no other hardware",
    )
    build.add_argument(
        "--modules", type=Path, metavar="DIR", help="the /lib/modules/RELEASE of --kernel FILE"
    )
    build.add_argument(
        "--refresh", action="store_true", help="take the newest Debian packages, not the cached"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    options = parser.parse_args(argv)
    tuned = options.kernel == TUNED
    if options.modules is not None and (options.kernel is None or tuned):
        parser.error("--modules belongs to --kernel FILE")
    os.umask(0o022)  # the guest's files are as the recipe says, whatever the builder's umask
    started = time.monotonic()
    wanted = BuildOptions(
        output=options.output,
        cache=options.cache,
        kernel_path=None if tuned or options.kernel is None else Path(options.kernel),
        modules_dir=options.modules,
        tuned=tuned,
        refresh=options.refresh,
    )
    try:
        result = build_image(wanted, lambda line: print(f"sampan image: {line}", file=sys.stderr))
    except (ImageError, OSError) as error:
        print(f"sampan image: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sampan image: interrupted; the image is as it was", file=sys.stderr)
        return 130
    taken = time.monotonic() - started
    if result.manifest is None:
        print(f"{options.output} is up to date")
    else:
        release = result.manifest.kernel_release
        print(f"{options.output}: kernel {release}, made in {taken:.1f} s")
    return 0
