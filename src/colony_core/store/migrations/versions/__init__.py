"""One file per step: `v0001_<what>.py`, with `revision = "0001"` and the number before it as `down_revision`."""
