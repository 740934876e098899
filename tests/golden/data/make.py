#!/usr/bin/env python3
"""Makes the hostile shards beside this file: each is what graft writes, with one thing in it that a reader must refuse.

    make.py        (needs h5py)

`plain.h5` is a good one. The test gives each a manifest record with its true sha256, so that the hash is no help.
"""
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).resolve().parent
TOKENIZER = "0" * 64
IDS = np.arange(40, dtype="<u2")


def write(name, tokens=None, after=None, skip=(), **changes):
    """The shard of two documents of 20 tokens; `changes` replaces columns, `tokens(file)` makes /tokens in another way."""
    columns = {
        "documents/offset": np.array([0, 20, 40], "<u8"), "documents/id_hash": np.array([1, 2], "<u8"),
        "documents/content_hash": np.array([1, 2, 3, 4], "<u8"), "documents/bytes": np.array([60, 70], "<u8"),
        "documents/source": np.array([0, 0], "<u2"), "sources": np.frombuffer(b"docs\n", "u1"),
    } | {key.replace("__", "/"): value for key, value in changes.items()}
    with h5py.File(HERE / f"{name}.h5", "w") as file:
        for key, value in dict(schema=1, vocab_size=300).items():
            file.attrs.create(key, value, dtype="<i8")
        for key, value in dict(tokenizer=TOKENIZER, split="train").items():
            file.attrs.create(key, np.bytes_(value))
        for path, value in columns.items():
            if path not in skip:
                file.create_dataset(path, data=value, track_times=False)
        if tokens:
            tokens(file)
        else:
            file.create_dataset("tokens", data=IDS, track_times=False)
        if after:
            after(file)


def external(file):
    (HERE / "outside.raw").write_bytes(IDS.tobytes())
    file.create_dataset("tokens", (40,), "<u2", external=[("outside.raw", 0, 80)])


def virtual(file):
    layout = h5py.VirtualLayout((40,), "<u2")
    layout[:] = h5py.VirtualSource("plain.h5", "tokens", (40,))
    file.create_virtual_dataset("tokens", layout)


def low_level(file, shape, chunk, filters=()):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(chunk)
    for code, flags, values in filters:
        plist.set_filter(code, flags, values)
    h5py.h5d.create(file.id, b"tokens", h5py.h5t.STD_U16LE, h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED,)), plist)


def unknown_filter(file):
    # Written through a filter number nobody has registered: optional, so that writing goes on without it.
    low_level(file, (40,), (40,), [(32999, h5py.h5z.FLAG_OPTIONAL, (1, 2))])
    file["tokens"].id.write_direct_chunk((0,), IDS.tobytes(), filter_mask=0)


def chunk(file, data, mask=0, shape=(40,), size=(40,)):
    low_level(file, shape, size, [(h5py.h5z.FILTER_SHUFFLE, 0, (2,)), (h5py.h5z.FILTER_DEFLATE, 0, (6,))])
    file["tokens"].id.write_direct_chunk((0,), data, filter_mask=mask)


def user_block():
    write("user_block")
    plain = (HERE / "user_block.h5").read_bytes()
    (HERE / "user_block.h5").write_bytes(b"\0" * 512 + plain)


def main():
    import zlib
    dataset = lambda **options: lambda file: file.create_dataset("tokens", track_times=False, **options)  # noqa: E731
    write("plain")
    write("deflated", dataset(data=IDS, chunks=(16,), shuffle=True, compression="gzip"))
    write("external_storage", external)
    write("virtual_dataset", virtual)
    write("soft_link", lambda file: file.__setitem__("tokens", h5py.SoftLink("/documents/source")))
    write("external_link", lambda file: file.__setitem__("tokens", h5py.ExternalLink("plain.h5", "/tokens")))
    write("external_link_root", after=lambda file: file.__setitem__("more", h5py.ExternalLink("outside.raw", "/x")))
    write("unknown_filter", unknown_filter)
    write("fletcher", dataset(data=IDS, chunks=(16,), fletcher32=True))
    write("rank3", dataset(data=IDS.reshape(2, 4, 5)))
    write("scalar", dataset(data=np.uint16(1)))
    write("null", dataset(data=h5py.Empty("<u2")))
    write("compact", lambda file: compact(file))
    write("shape_bomb", lambda file: low_level(file, (1 << 40,), (1 << 28,)))
    write("chunk_bomb", lambda file: chunk(file, zlib.compress(bytes(1 << 20)), shape=(40,), size=(1 << 29,)))
    write("many_chunks", lambda file: low_level(file, (1 << 20,), (1,)))
    write("hole", lambda file: low_level(file, (40,), (20,), [(h5py.h5z.FILTER_SHUFFLE, 0, (2,)), (h5py.h5z.FILTER_DEFLATE, 0, (6,))]))
    write("deflate_short", lambda file: chunk(file, zlib.compress(IDS.tobytes()[:60])))
    write("deflate_long", lambda file: chunk(file, zlib.compress(bytes(1 << 20))))
    write("deflate_damaged", lambda file: chunk(file, b"\x78\x9c" + bytes(range(70, 120))))
    write("big_endian", dataset(data=IDS.astype(">u2")))
    write("signed", dataset(data=IDS.astype("<i2")))
    write("floats", dataset(data=IDS.astype("<f2")))
    write("strings", dataset(data=[b"x"] * 40))
    write("variable_strings", after=lambda file: file.attrs.__setitem__("note", "text of any length"))
    write("wide", dataset(data=IDS.astype("<u4")))
    write("token_outside", dataset(data=IDS + 270))
    write("token_outside_deflated", dataset(data=IDS + 270, chunks=(40,), shuffle=True, compression="gzip"))
    write("too_few_tokens", dataset(data=IDS[:39]))
    write("no_tokens", lambda file: None)
    write("no_offset", skip=["documents/offset"])
    write("offset_descends", documents__offset=np.array([0, 41, 40], "<u8"))
    write("offset_back", documents__offset=np.array([0, 30, 20], "<u8"))
    write("offset_starts_late", documents__offset=np.array([1, 20, 40], "<u8"))
    write("offset_ends_early", documents__offset=np.array([0, 20, 39], "<u8"))
    write("loss_beyond", loss__first=np.array([0, 1, 1], "<u8"), loss__span=np.array([0, 41], "<u8"))
    write("loss_first_beyond", loss__first=np.array([0, 1, 2], "<u8"), loss__span=np.array([0, 4], "<u8"))
    write("loss_without_spans", loss__first=np.array([0, 1, 1], "<u8"))
    write("foreign_dataset", more=np.arange(3, dtype="<u2"))
    write("chunked_column", skip=["documents/bytes"],
          after=lambda file: file.create_dataset("documents/bytes", data=np.array([60, 70], "<u8"), chunks=(2,), track_times=False))
    write("deep_groups", after=lambda file: file.create_group("a/b/c/d/e/f"))
    write("loop", after=lambda file: file["documents"].__setitem__("again", file["/"]))
    write("many_groups", after=lambda file: [file.create_group(f"g{i}") for i in range(70)])
    write("named_type", after=lambda file: file.__setitem__("type", np.dtype("<u2")))
    write("newer_schema", after=lambda file: file.attrs.modify("schema", 2))
    write("no_schema", after=lambda file: file.attrs.__delitem__("schema"))
    write("other_vocab", after=lambda file: file.attrs.modify("vocab_size", 301))
    write("other_split", after=lambda file: file.attrs.__setitem__("split", np.bytes_("heldout")))
    write("array_attribute", after=lambda file: file.attrs.__setitem__("list", [1, 2]))
    user_block()
    sizes = [file.stat().st_size for file in HERE.glob("*.h5")]
    print(len(sizes), "files,", sum(sizes), "bytes")


def compact(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, b"tokens", h5py.h5t.STD_U16LE, h5py.h5s.create_simple((40,)), plist).write(
        h5py.h5s.ALL, h5py.h5s.ALL, IDS)


if __name__ == "__main__":
    main()
