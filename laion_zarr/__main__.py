"""Run the command ``laion-zarr`` as ``python -m laion_zarr``."""

import sys

from laion_zarr.conversion.cli import main

if __name__ == "__main__":
    sys.exit(main())
