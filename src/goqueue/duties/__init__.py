"""Upkeep that one elected leader does for all: one file for each duty."""

from goqueue.duties.duties import Duties

__all__ = ["Duties"]
