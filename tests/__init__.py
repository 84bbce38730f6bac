"""The tests; a package only so that they find `tests.support`."""
