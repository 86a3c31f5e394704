"""A black-box conformance suite for servers of the Docker Engine API."""
