"""The command `rungraph`."""


def main() -> None:
    raise SystemExit("rungraph: not built yet")
