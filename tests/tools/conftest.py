"""Lets every test of the tools start in mmseg's scope and with no other test's logs."""

from fresh_mmengine import fresh_mmengine  # noqa: F401
