"""Are the launches that kernels/simt logs (GRAFT_SIMT_LOG) those of kernels/cuda/manifest.json? For check-cuda and mutate-kernels."""
import json

FUNCTIONS = {"min": min, "ceil_div": lambda a, b: -(-a // b), "where": lambda c, a, b: a if c else b, "max_blocks": 6}  # rows.cuh on the host


def wrong_launch(entry, launch):
    """What differs, or None. launch: one object of the log."""
    values = {p["name"]: int(v) if p["type"] != "f32" else v for p, v in zip(entry["parameters"], launch["arguments"], strict=True)}
    values |= FUNCTIONS | {"chunk": entry.get("chunk"), "tile_count": launch["grid"][0], "__builtins__": {}}
    grid = [eval(formula, values) for formula in entry["grid"]]
    shared = eval(str(entry["dynamic_shared_bytes"]), values)
    if (grid, entry["block"], shared) != (launch["grid"], launch["block"], launch["shared"]) or shared > entry.get("most_dynamic_shared_bytes", shared):
        return (f"{launch['entry']} is launched as {launch['grid']} x {launch['block']} with {launch['shared']} bytes of shared memory "
                f"but the manifest says {grid} x {entry['block']} with {shared}")
    if not eval(entry.get("when", "True"), values):
        return f"{launch['entry']} is launched where the manifest says {entry['when']}: {launch['arguments']}"
    return None


def launches(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
