"""``python -m bec_mace`` is ``bec-mace``."""

from bec_mace.cli.main import main

if __name__ == "__main__":
    main()
