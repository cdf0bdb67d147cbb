"""Fails as a plugin built against a library that went away does."""

import a_library_that_went_away  # noqa: F401
