"""Images by sample id."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from octoscale.data import reader as reader_module
from octoscale.data.decode import decode_image
from octoscale.data.index import Index
from octoscale.data.reader import ImageReader, Substitution
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError


def originals(packed: Index) -> np.ndarray:
    source = packed.directory.parent / "source"
    return np.stack([decode_image(path.read_bytes()) for path in sorted(source.glob("*/*"))])


def damage(packed: Index, sample_id: int) -> Path:
    """Flip one bit in the middle of a packed image; returns the shard."""
    path = packed.directory / packed.manifest.shards[packed.shard_ids[sample_id]].name
    content = bytearray(path.read_bytes())
    content[packed.offsets[sample_id] + packed.sizes[sample_id] // 2] ^= 1
    path.write_bytes(content)
    return path


def read(reader: ImageReader, *sample_ids: int) -> tuple[np.ndarray, list[Substitution]]:
    images = np.zeros(reader.batch_shape(len(sample_ids)), np.uint8)
    return images, reader.read_batch(sample_ids, images)


def test_every_sample_id_gives_the_pixels_of_its_original(packed: Index) -> None:
    reader = ImageReader(packed, packed.directory)

    images = torch.stack([reader[sample_id] for sample_id in range(len(reader))])

    assert images.dtype == torch.uint8
    assert images.shape == (24, 3, 16, 16)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), originals(packed))


def test_a_batch_is_its_images_in_the_order_asked_for(packed: Index) -> None:
    reader = ImageReader(packed, packed.directory)

    batch = reader.__getitems__(np.array([7, 0, 23, 7]))

    assert torch.equal(batch, torch.stack([reader[7], reader[0], reader[23], reader[7]]))


def test_a_pickled_reader_reads_the_same(packed: Index) -> None:
    reader = ImageReader(packed, packed.directory)
    expected = reader[5]

    assert torch.equal(pickle.loads(pickle.dumps(reader))[5], expected)


def test_many_shards_need_few_open_files(packed: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_MAX_OPEN_SHARDS", 2)
    assert len(packed.manifest.shards) > 2
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    reader = ImageReader(packed, packed.directory)

    for sample_id in [*range(24), *range(24)]:
        reader[sample_id]
    during = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    reader.close()

    assert during == before + 2
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_damaged_image_is_named_by_shard_offset_and_sample_id(packed: Index) -> None:
    path = damage(packed, 9)
    reader = ImageReader(packed, packed.directory)

    with pytest.raises(OctoscaleError, match=rf"sample 9 at byte {packed.offsets[9]} of {path} .*crc32 differs"):
        reader[9]
    assert reader[8].shape == (3, 16, 16)


def test_the_substitute_is_the_same_for_every_rank_and_batch_unless_it_is_the_partner(packed: Index) -> None:
    damage(packed, 9)
    reader = ImageReader(packed, packed.directory)
    # Identity 2 has the images 8 to 11.
    chosen = {
        partner: read(reader, 0, 1, 9, partner)[1][0].substitute for partner in (8, 10, 11)
    }  # fmt: skip

    assert all(substitute in {8, 10, 11} - {partner} for partner, substitute in chosen.items())
    assert len(set(chosen.values())) <= 2
    assert read(reader, 9, 8)[1][0].substitute == chosen[8]


def test_a_partner_stands_in_where_there_is_no_other(packed: Index) -> None:
    for sample_id in (9, 10, 11):
        damage(packed, sample_id)

    images, substitutions = read(ImageReader(packed, packed.directory), 9, 8)

    assert [found.substitute for found in substitutions] == [8]
    assert np.array_equal(images[0], images[1])


def test_what_is_missing_or_damaged_here_is_read_from_where_it_came(
    packed: Index, remote: Store, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(packed.directory, copy)
    index = Index.load(copy)
    damage(index, 9)
    (copy / index.manifest.shards[index.shard_ids[0]].name).unlink()
    reader = ImageReader(index, copy, remote)

    images, substitutions = read(reader, *range(24))

    assert substitutions == []
    assert np.array_equal(images, originals(packed))


def test_an_open_shard_that_was_replaced_is_opened_again(packed: Index) -> None:
    path = packed.directory / packed.manifest.shards[packed.shard_ids[9]].name
    good = path.read_bytes()
    damage(packed, 9)
    reader = ImageReader(packed, packed.directory)
    reader[8]
    path.with_name("new").write_bytes(good)
    path.with_name("new").replace(path)

    assert reader[9].shape == (3, 16, 16)


def test_a_truncated_shard_is_an_error(packed: Index) -> None:
    last = int(np.argmax(np.where(packed.shard_ids == 0, packed.offsets, -1)))
    os.truncate(packed.directory / "shards" / "shard-000000.tar", int(packed.offsets[last]) + 10)

    with pytest.raises(OctoscaleError, match=f"sample {last} .* the shard ends after 10 of {packed.sizes[last]} bytes"):
        ImageReader(packed, packed.directory)[last]


def test_a_missing_shard_is_an_error(packed: Index) -> None:
    (packed.directory / packed.manifest.shards[packed.shard_ids[0]].name).unlink()

    with pytest.raises(OctoscaleError, match=r"sample 0 .* No such file"):
        ImageReader(packed, packed.directory)[0]


@pytest.mark.parametrize("sample_id", [-1, 24])
def test_a_sample_id_out_of_range_is_an_index_error(packed: Index, sample_id: int) -> None:
    with pytest.raises(IndexError):
        ImageReader(packed, packed.directory)[sample_id]
