"""`python3 -m benchmarks`: see compare."""

import sys

from benchmarks.compare import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
