"""The course as web pages that need no network: `make site`."""
