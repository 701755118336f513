"""Packing: a source of images to WebDataset shards and an index, once, before training."""

from octoscale.data.importers.source import Excluded
from octoscale.data.pack.packing import pack
from octoscale.data.pack.report import PackReport, Progress
from octoscale.data.pack.rules import Rules

__all__ = ["Excluded", "PackReport", "Progress", "Rules", "pack"]
