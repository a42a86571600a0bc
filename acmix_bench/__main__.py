"""`python -m acmix_bench` is `acmix-bench`."""

from acmix_bench.cli import main

if __name__ == "__main__":
    main()
