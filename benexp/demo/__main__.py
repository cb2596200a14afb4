"""`python -m benexp.demo OUT --size 1200 --seed 7`: writes one product with its truth raster and prints both paths."""

import argparse
import sys
from pathlib import Path

from benexp.core.errors import BenexpError
from benexp.demo.product import write_product


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m benexp.demo", description=__doc__)
    parser.add_argument("out", type=Path, help="folder that the product is written to")
    parser.add_argument("--size", type=int, default=1200, help="pixels a side at 10 m, even (default 1200)")
    parser.add_argument("--seed", type=int, default=7, help="chooses the landscape (default 7)")
    args = parser.parse_args()
    try:
        for path in write_product(args.out, args.size, args.seed):
            print(path)
    except (BenexpError, OSError) as error:
        print(f"benexp: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
