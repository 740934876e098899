#!/usr/bin/env python3
"""Writes tests/golden/train/events.bin with TensorBoard's own writer and clock readings of our choice. Run with tensorboard
installed; the file is committed."""
import pathlib

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

with open(pathlib.Path(__file__).parent / "events.bin", "wb") as file:
    writer = RecordWriter(file)
    writer.write(Event(wall_time=1760000000.25, file_version="brain.Event:2").SerializeToString())
    for step, scalars in [(0, {"heldout/bits_per_byte": 1.25}), (1, {"train/loss": 2.5, "train/learning_rate": 1e-4}),
                          (300, {"train/loss": float("nan")}), (1 << 40, {"a" * 200: -0.0})]:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()])
        writer.write(Event(wall_time=1760000000.25 + step, step=step, summary=summary).SerializeToString())
    writer.flush()
