"""`python3 -m image build`, for a tree that is not installed."""

import sys

from image.cli import main

sys.exit(main())
