"""The backbone made of blocks of mace; the only folder that imports mace."""
