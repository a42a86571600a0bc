"""`python -m acmix_bench` is `acmix-bench`. Ctrl-C is one line even while the command line is being imported."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from acmix_bench import cli

        cli.main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
