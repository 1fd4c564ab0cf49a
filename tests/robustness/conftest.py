"""Lets every test of robustness start in mmseg's scope and with no other test's logs."""

from fresh_mmengine import fresh_mmengine  # noqa: F401
