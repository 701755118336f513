"""Shared memory that the data workers write to."""

import collections
import shutil

import numpy as np
import pytest
import torch

from octoscale.data.buffers import SharedBuffers, new_images
from octoscale.errors import OctoscaleError


def test_what_is_written_to_a_buffer_is_copied_out_of_it() -> None:
    buffers = SharedBuffers(2, (3, 4, 4, 3))

    first, second = buffers.next(), buffers.next()
    buffers.view(first)[:] = 7
    buffers.view(second)[:] = 9
    copy = buffers.copy(first)
    buffers.view(first)[:] = 1

    assert torch.equal(copy, torch.full((3, 4, 4, 3), 7, dtype=torch.uint8))
    assert np.all(buffers.view(second) == 9)
    assert buffers.next() == first


def test_too_little_shared_memory_is_said_before_a_worker_meets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**26, 0, 2**26))

    with pytest.raises(OctoscaleError, match=r"need 92 MiB of shared memory, /dev/shm has 64 MiB free; .*--shm-size"):
        SharedBuffers(5, (512, 112, 112, 3))


def test_new_images_are_unshared_bytes() -> None:
    images = new_images((2, 4, 4, 3))

    assert images.dtype == torch.uint8
    assert images.shape == (2, 4, 4, 3)
    assert not images.is_shared()
