#!/usr/bin/env python3
"""Speed and memory of exports: each format of a model written, verified and hashed by build/test/export_files, beside a plain copy of the input.

Usage: bench/export.py MODEL WORK FORMAT... [--build build/test] [--adapter DIRECTORY] [--no-copy] [--cold]

MODEL: a Hugging Face directory (scripts/make-shaped-model makes one). WORK: a scratch directory on the disk to be measured. Printed per format: bytes read and
written, seconds, processor seconds of all threads, MB/s of input, how many times the copy's seconds, and the peaks of anonymous memory (RssAnon, sampled every 20 ms) and of everything mapped (VmHWM, which counts the
pages of mapped files that the kernel keeps as long as there is room)."""
import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import time

# As graft sets them for itself (cli/engine.cpp).
SETTINGS = {"GOMP_SPINCOUNT": "20000", "MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def forget(args):
    if args.cold:
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def plain_copy(model, work):
    target = work / "copy"
    start, processor = time.monotonic(), processor_seconds()
    subprocess.run(["cp", "-r", "--sparse=never", "--reflink=never", model, target], check=True)  # every byte
    for path in target.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    seconds = time.monotonic() - start
    shutil.rmtree(target)
    return seconds, processor_seconds() - processor


def status(pid):
    with open(f"/proc/{pid}/status") as file:
        return {k: int(v.split()[0]) for k, v in (line.split(":", 1) for line in file) if k in ("RssAnon", "VmHWM")}


def export(args, name, target):
    start, processor = time.monotonic(), processor_seconds()
    command = [args.build / "export_files", args.model, args.adapter, target, name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **SETTINGS})
    anonymous = everything = 0
    while process.poll() is None:
        try:
            now = status(process.pid)
        except (OSError, ValueError):
            now = {}
        anonymous, everything = max(anonymous, now.get("RssAnon", 0)), max(everything, now.get("VmHWM", 0))
        time.sleep(0.02)
    seconds = time.monotonic() - start
    if process.returncode != 0:
        raise SystemExit(f"{name}: export_files ended with {process.returncode}")
    written = sum(artifact["bytes"] for artifact in json.load(process.stdout))
    return seconds, processor_seconds() - processor, written, anonymous * 1024, everything * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("formats", nargs="+")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "build/test")
    parser.add_argument("--adapter", default="-", help="a PEFT directory; -: rank 4 on every projection, from a fixed seed")
    parser.add_argument("--no-copy", action="store_true")
    parser.add_argument("--cold", action="store_true", help="before each copy and each export nothing is in the page cache (needs root); a copy before each")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    size = sum(path.stat().st_size for path in args.model.iterdir())

    def timed_copy():
        forget(args)
        seconds, processor = plain_copy(args.model, args.work)
        print(
            f"{'copy and fsync':16} {size / 1e9:6.2f} GB read {size / 1e9:6.2f} written {seconds:7.1f} s, processor {processor:6.1f} s {size / seconds / 1e6:7.0f} MB/s",
            flush=True,
        )
        return seconds

    copy = None if args.no_copy else timed_copy()
    for i, name in enumerate(args.formats):
        if args.cold and i > 0 and copy:
            copy = timed_copy()  # the disk is not the same from minute to minute
        target = args.work / "export"
        forget(args)
        seconds, processor, written, anonymous, everything = export(args, name, target)
        shutil.rmtree(target)
        share = f"copy x {seconds / copy:5.2f}" if copy else ""
        print(
            f"{name:16} {size / 1e9:6.2f} GB read {written / 1e9:6.2f} written {seconds:7.1f} s, processor {processor:6.1f} s {size / seconds / 1e6:7.0f} MB/s {share}"
            f"  anonymous {anonymous / 2**20:6.0f} MiB, with mapped files {everything / 2**20:6.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
