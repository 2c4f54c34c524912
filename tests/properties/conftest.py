"""What the properties are played by."""

from __future__ import annotations

from hypothesis import settings

for profile in ("model", "nightly"):  # how many stories tests/properties/test_model.py plays
    settings.register_profile(profile)
