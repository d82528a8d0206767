"""Tables and plots of what the files of results hold."""

from benchmarks.report.command import report

__all__ = ["report"]
