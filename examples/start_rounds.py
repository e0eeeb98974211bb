"""Start a round of every camera whose student got worse, over the page's API.

    culling cloud token create rounds --role operator > token
    python examples/start_rounds.py http://127.0.0.1:9466 --token-file token

It prints a line for each camera, and starts nothing with `--dry-run`. A camera whose round is running, or that is
not live, is left alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from culling.common.client import Client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    client = Client(given.url, given.token_file.read_text().strip() if given.token_file else "")
    for row in client.fleet():
        print(f"{row['camera']}: {_look(client, row, given.dry_run)}")


def _look(client: Client, row: dict[str, object], dry: bool) -> str:
    if row["state"] != "live" or row["round"]:
        return "left alone"
    if not row["worse"]:
        return "fine"
    return "would start a round" if dry else f"round asked for, request {client.start_round(str(row['camera']))}"


if __name__ == "__main__":
    main()
