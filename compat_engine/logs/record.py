"""One record of a log, whatever file it comes from."""

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False):
    """log: the line with its newline if it has one; bytes that are no UTF-8 as surrogates (os.fsdecode)."""

    log: str
    time: str
    stream: str = "stdout"
    attrs: dict[str, str] | None = None
