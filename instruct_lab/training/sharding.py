"""Fully sharded data parallelism (FSDP2): each device keeps a shard of every parameter, gradient and optimizer state.

A layer's parameters are gathered on all devices while the layer is computed. Right after its backward pass, the layer's
gradients are averaged over the devices, and each device keeps its shard of the average. All ranks must therefore run
the same forward and backward passes in the same order.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn

from instruct_lab.errors import InstructLabError
from instruct_lab.model import LoadedModel
from instruct_lab.model.shares import is_sharded, layers_of, whole
from instruct_lab.training.sharded_states import load_state, save_state

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for models that `configure_model` shards, with training states in this package's format.

    Unlike Lightning's class, it can start its processes before a module exists, and it always shards over all devices.
    The states that it writes can be loaded on any number of devices and with any other strategy.
    """

    def setup_environment(self) -> None:
        """Join the process group and create a device mesh for data parallelism; later calls do nothing."""
        if self._device_mesh is None:
            from torch.distributed.device_mesh import init_device_mesh

            self._setup_distributed()
            self._data_parallel_size, self._tensor_parallel_size = self.world_size, 1
            names = ("data_parallel", "tensor_parallel")
            self._device_mesh = init_device_mesh(self.root_device.type, (self.world_size, 1), mesh_dim_names=names)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: Lightning restores the optimizers with this class's `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the module's state, in which every sharded parameter is this rank's shard."""
        return Strategy.lightning_module_state_dict(self)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return the optimizer's state, in which every sharded tensor is this rank's shard."""
        return Strategy.optimizer_state(self, optimizer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write the shards of all ranks to a folder, and everything else to a single file beside the folder."""
        save_state(checkpoint, Path(self.broadcast(filepath)), self.broadcast)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a training state on every rank; each rank reads only its own shard of a sharded tensor."""
        return load_state(Path(self.broadcast(checkpoint_path)), self.device_mesh["data_parallel"])

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        """Copy the weights of a training state into the sharded parameters."""
        assert self.lightning_module is not None
        parameters = dict(self.lightning_module.named_parameters())
        with torch.no_grad():
            for name, value in checkpoint["state_dict"].items():
                parameters[name].copy_(as_share(value, parameters[name]))

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        """Restore the optimizers; a tensor with the same shape as its parameter is sharded like the parameter."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            values = {
                index: {name: as_share(value, parameters[index]) for name, value in of_parameter.items()}
                for index, of_parameter in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": values})


def as_share(value: Any, like: Any) -> Any:
    """Shard a value like a parameter if it is a whole tensor of the same shape; otherwise return it unchanged.

    Args:
        value: the value, such as a tensor of an optimizer's state.
        like: the sharded parameter.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(value, Tensor) and not isinstance(value, DTensor) and value.shape == like.shape:
        on_device = value.to(like.device)
        return distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)
    return value


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a model in place, layer by layer; the parameters outside of layers are sharded together.

    Raises:
        InstructLabError: a parameter has no dimension along which it could be sharded.
    """
    from torch.distributed.fsdp import fully_shard

    scalars = [name for name, parameter in model.named_parameters() if parameter.dim() == 0]
    if scalars:
        raise InstructLabError(
            f"The parameter {scalars[0]} is a single number, which cannot be sharded",
            where="trainer.strategy=fsdp",
            do="choose trainer=ddp or another tuning method",
        )
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    # an objective may call the output projection after the forward pass, so its weights stay until the backward pass
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


def release(model: Any) -> None:
    """Shard again the parameters that belong to no layer, such as the embeddings, to free memory on each device.

    A forward pass gathers all parameters. Those of layers are sharded again after the layer, but the others only in the
    backward pass, which does not follow in evaluation.
    """
    if is_sharded(model):
        model.reshard()


@contextlib.contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Keep all parameters on every device within the block, so that the ranks may run different forward passes.

    Every rank must enter the block. For a model that is not sharded, the block changes nothing.
    """
    if not is_sharded(model):
        yield
        return
    from torch.distributed.fsdp import FSDPModule

    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    managed = [module for module in model.modules() if is_sharded(module)]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    _mark(managed, is_managed=False)
    try:
        yield
    finally:
        _mark(managed, is_managed=True)
        for module in modules:
            module.set_reshard_after_forward(module is not model, recurse=False)
            module.reshard()


def _mark(modules: list[nn.Module], *, is_managed: bool) -> None:
    """Set the attribute by which transformers sees that modules are sharded.

    If the attribute is true, transformers generates the same number of tokens on all ranks.
    """
    for module in modules:
        module._is_fsdp_managed_module = is_managed  # type: ignore[assignment]


def without_weights(loaded: LoadedModel) -> LoadedModel:
    """Copy a model without memory for its parameters, so that the copy can later hold gathered weights for saving."""
    memo = {id(one): nn.Parameter(one.to("meta"), requires_grad=one.requires_grad) for one in loaded.model.parameters()}
    return loaded.with_model(copy.deepcopy(loaded.model, memo))


def fill(template: LoadedModel, model: nn.Module, is_needed: bool) -> LoadedModel:
    """Gather a sharded model's weights, one parameter at a time, into a copy in the memory of the machine.

    Every rank must call this.

    Args:
        template: the copy that `without_weights` returned.
        model: the sharded model.
        is_needed: whether this rank needs the weights; other ranks only send their shards.

    Returns:
        A copy of the model with its weights, or without weights on a rank that does not need them.
    """
    weights: dict[int, Any] = {}
    empty = dict(template.model.named_parameters())
    for name, parameter in model.named_parameters():
        value = whole(parameter.detach())
        if is_needed:
            weights[id(empty[name])] = nn.Parameter(value.to("cpu", copy=True), requires_grad=parameter.requires_grad)
    return template.with_model(copy.deepcopy(template.model, weights)) if is_needed else template
