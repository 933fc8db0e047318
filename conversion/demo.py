"""Public import path of the demo's functions, defined in `laion_zarr.conversion.cli.demo`."""

from laion_zarr.conversion.cli.demo import run_demo, use_demo

__all__ = ["run_demo", "use_demo"]
