"""``python -m laion_zarr.conversion.cli``: the command, by this interpreter."""

import sys

from laion_zarr.conversion.cli.commands import main

sys.exit(main())
