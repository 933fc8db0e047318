"""Run the command ``laion-zarr`` as ``python -m laion_zarr.conversion.cli``."""

import sys

from laion_zarr.conversion.cli.commands import main

sys.exit(main())
