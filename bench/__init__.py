"""The benchmark programs, and their last results. Run one as `python -m bench.<name>`."""
