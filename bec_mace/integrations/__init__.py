"""Sockets of other programs."""
