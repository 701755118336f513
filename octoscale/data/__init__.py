"""From image folders to batches: storage, packing, index, plan, reader and loader."""
