"""The resolver each container on a user-defined network finds at 127.0.0.11."""
