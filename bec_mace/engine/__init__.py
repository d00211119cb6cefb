"""Exact response of polarization, energy and charges to displacements, for any model that is a list of stages."""
