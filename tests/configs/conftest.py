"""Lets every test of the configs start in mmseg's scope and with no other test's logs."""

from fresh_mmengine import fresh_mmengine  # noqa: F401
