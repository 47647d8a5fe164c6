"""`python -m shim` is `sampan`."""

from shim.cli.main import main

raise SystemExit(main())
