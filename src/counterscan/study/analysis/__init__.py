"""What a reader study showed: figures with intervals over readers and cases, a page, and files for other programs."""

from counterscan.study.analysis.analysing import Results, analyse

__all__ = ["Results", "analyse"]
