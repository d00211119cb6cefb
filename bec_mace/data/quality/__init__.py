"""What labels betray about how they were made."""
