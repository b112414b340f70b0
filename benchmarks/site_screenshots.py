"""Pictures of the site for the README, light and dark.

    python benchmarks/site_screenshots.py [--db results/tuneboard.duckdb] [--out leaderboard/images] [--page compare]...

Starts the site on a database and takes a picture of each page in Chromium, with at most 256 colours, which keeps them
small: one over 200 kB is an error.
"""

from __future__ import annotations

import argparse
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

server = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("site_server.py"))))

LARGEST_KB = 200
WIDTH, HEIGHT = 1200, 780
#: Pages that the README shows.
SHOWN = ("leaderboard", "compare", "samples")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, default=Path("results/tuneboard.duckdb"))
    parser.add_argument("--out", type=Path, default=Path("leaderboard/images"))
    parser.add_argument("--page", action="append", help="page, with its query string if need be: samples?status=fixed")
    args = parser.parse_args()
    if not args.db.exists():
        print(f"no database at {args.db}; make one with: tuneboard demo --db {args.db}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, server.running_site(args.db, Path(folder) / "server.log") as site:
        sizes = [size for page in args.page or SHOWN for size in picture(site, page, args.out)]
    return int(max(sizes) > LARGEST_KB)


def picture(site: Any, asked: str, out: Path) -> list[float]:
    """Take a page's picture in both themes; returns their sizes in kB."""
    from playwright.sync_api import sync_playwright

    page, _, query = asked.partition("?")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    sizes = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for theme in ("light", "dark"):
            view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)
            view.goto(site.address(page, dict(parse_qsl(query))))
            view.wait_for_selector("[data-testid=stMainBlockContainer] h1")
            view.wait_for_function(
                "() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
            )
            view.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
            # Charts are drawn after the page is there.
            view.wait_for_timeout(1500)
            file = out / f"{page}-{theme}.png"
            view.screenshot(path=file)
            shrink(file)
            sizes.append(file.stat().st_size / 1000)
            print(f"{file}: {sizes[-1]:.0f} kB")
        browser.close()
    return sizes


def shrink(file: Path) -> None:
    """Keep the 256 colours that cover a picture best; Pillow comes with Streamlit."""
    from PIL import Image

    with Image.open(file) as image:
        # The default would merge the colours of thin lines, which are few points.
        small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
