"""The processes that share a training run, whoever started them: `accelerate launch` and torchrun leave the same signs."""

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Workers:
    """The processes that share a run, started by `accelerate launch` or torchrun; one, if nothing started others."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @classmethod
    def join(cls) -> "Workers":
        """Find the others, and the device of this one."""
        import torch

        count = int(os.environ.get("WORLD_SIZE", "1"))
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
        if device != "cpu":
            torch.cuda.set_device(device)
        if count > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl")
        return cls(torch.distributed.get_rank() if count > 1 else 0, count, device)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wrap(self, model: Any) -> Any:
        """The model as it is trained: with several processes, gradients are averaged over them in the backward pass."""
        if self.count == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model)

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self.count == 1:
            return value
        import torch

        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return tensor.item()

    def wait(self) -> None:
        if self.count > 1:
            import torch

            torch.distributed.barrier()
