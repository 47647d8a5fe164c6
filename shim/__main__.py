"""`python -m shim` is `sampan`."""

from shim.cli import main

raise SystemExit(main())
