"""`compat-engine` and `python -m compat_engine`: the daemon's command line."""

import sys

from compat_engine.config import from_arguments
from compat_engine.errors import EngineError


def main() -> int:
    """Exit status: 0 after an orderly stop, 1 when the daemon could not start or serve."""
    try:
        config = from_arguments(sys.argv[1:])
        from compat_engine.daemon import run  # after the arguments: --help need not wait for the whole engine

        run(config, sys.argv[1:])
    except (EngineError, OSError) as error:
        print(f"failed to start daemon: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
