"""Records the run of a torch optimizer as a trajectory for `wgpu-optim replay`, and reads the file that `replay --output` wrote.

    python3 docs/record_torch.py && wgpu-optim replay adamw.safetensors --backend gpu --output replayed.safetensors

Needs torch, numpy and safetensors. `tests/golden/README.md` describes the format of the file.
"""

import json

import torch
from safetensors.numpy import load_file, save_file


def record(path, make, optimizer, hyper, shapes, steps=10, states={"exp_avg": "m", "exp_avg_sq": "v"}, seed=0):
    """Runs `make(params)`, a torch optimizer, in f64 on random gradients, and writes the run to `path`.

    `optimizer` and `hyper` name the rule and its settings in wgpu-optim; `shapes` gives the tensors; `states` maps torch's names of states
    to wgpu-optim's.
    """
    rng = torch.Generator().manual_seed(seed)
    draw = lambda shape: torch.randn(shape, generator=rng)  # f32: the numbers that the kernels see are exact
    start = {name: draw(shape) for name, shape in shapes.items()}
    params = {name: torch.nn.Parameter(p.double()) for name, p in start.items()}
    run, out = make(list(params.values())), {f"param/{name}": p for name, p in start.items()}
    for t in range(1, steps + 1):
        for name, p in params.items():
            out[f"grad/{t}/{name}"] = draw(p.shape)
            p.grad = out[f"grad/{t}/{name}"].double()
        run.step()
        for name, p in params.items() if t in (1, 2, 3, steps) else ():
            out[f"expect/{t}/param/{name}"] = p.detach().clone()
            for theirs, ours in states.items():
                out[f"expect/{t}/{ours}/{name}"] = run.state[p][theirs].clone()
    about = {"optimizer": optimizer, "hyper": json.dumps(hyper), "steps": str(steps), "source": f"torch {torch.__version__}",
             "tolerance_f32": "5e-5", "tolerance_f64": "1e-12"}
    save_file({key: value.numpy() for key, value in out.items()}, path, metadata=about)


def replayed(path):
    """Reads the file that `replay --output` wrote: {"param/<t>/<tensor>" or "<state>/<t>/<tensor>": array}."""
    return load_file(path)


if __name__ == "__main__":
    record("adamw.safetensors", lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
           "adamw", {"lr": 1e-2, "weight_decay": 0.1}, {"w": (64, 33), "b": (33,)})
