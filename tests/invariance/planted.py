"""Plausible bugs, by name: each of them breaks one class of configs that must give one trajectory."""

from __future__ import annotations

import dataclasses
import random
import types
from collections.abc import Callable
from typing import Any

import pytest

BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}
"""Functions that plant a bug, by its name."""


def bug(plant: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """Add a function to the bugs."""
    BUGS[plant.__name__] = plant
    return plant


def plant(name: str | None, patch: pytest.MonkeyPatch) -> None:
    """Plant a bug until the patch is undone; `None`: no bug."""
    if name is not None:
        BUGS[name](patch)


# ---- steps


@bug
def mean_of_means(patch):
    """The loss of a step is the mean of its micro-batches' means."""
    from instruct_lab.training.module import TuningModule

    compute = TuningModule._loss

    def mean(self, batch):
        loss = compute(self, batch)
        count = loss.counts.sum().clamp(min=1)
        return dataclasses.replace(loss, sums=loss.sums / count, counts=loss.counts / count)

    patch.setattr(TuningModule, "_loss", mean)


@bug
def only_the_last_micro_batch_is_counted(patch):
    """The gradient of a step is divided by the target tokens of its last micro-batch."""
    from instruct_lab.training.sums import Sums

    add = Sums.add

    def add_to_nothing(self, loss, rows=None):
        if rows is None:
            self.table[0].zero_()
        add(self, loss, rows)

    patch.setattr(Sums, "add", add_to_nothing)


@bug
def an_incomplete_step_is_divided_as_a_complete_one(patch):
    """The last step of an epoch is divided by the target tokens of a step with all micro-batches."""
    from instruct_lab.training.module import TuningModule

    scale = TuningModule.on_before_optimizer_step

    def divide(self, optimizer):
        scale(self, optimizer)
        every = self.trainer.accumulate_grad_batches
        done = (self.trainer.fit_loop.epoch_loop.batch_idx % every) + 1
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad *= done / every

    patch.setattr(TuningModule, "on_before_optimizer_step", divide)


@bug
def a_repeated_step_counts_its_sums_twice(patch):
    """A step that exhausts memory keeps the sums of the failed attempt."""
    from instruct_lab.training.module import TuningModule

    discard = TuningModule._discard_gradients
    patch.setattr(
        TuningModule, "_discard_gradients", lambda self: self.zero_grad() if self._step._batches else discard(self)
    )


@bug
def a_repeated_step_adds_its_gradients_twice(patch):
    """A step that exhausts memory keeps the gradients of the failed attempt."""
    from instruct_lab.training.module import TuningModule

    discard = TuningModule._discard_gradients
    patch.setattr(
        TuningModule, "_discard_gradients", lambda self: self._window.clear() if self._step._batches else discard(self)
    )


@bug
def masks_are_drawn_by_position_in_the_micro_batch(patch):
    """The tokens that are masked depend on where in its micro-batch an example stands."""
    from instruct_lab.batching import BatchLoader

    def share(self, order, position, epoch):
        examples = [self._examples[index] for index in self._together(order, position)]
        if self._transform is None:
            return examples
        return [self._transform(one, random.Random(f"{epoch}:{row}")) for row, one in enumerate(examples)]

    patch.setattr(BatchLoader, "_share", share)


@bug
def the_norm_of_a_sharded_gradient_is_that_of_one_share(patch):
    """Each rank computes the norm of its own shares of the gradient."""
    import torch

    from instruct_lab.model.shares import share_of_rank

    total = torch.nn.utils.get_total_norm

    def norm_of_shares(gradients):
        return total([share_of_rank(gradient) for gradient in gradients])

    patch.setattr(torch.nn.utils, "get_total_norm", norm_of_shares)


@bug
def a_continued_run_keeps_the_batches_of_each_device(patch):
    """A run that goes on with fewer devices takes fewer examples in each step."""
    from instruct_lab.training import run

    patch.setattr(run, "divide_steps", lambda experiment, recorded, now: experiment)


@bug
def the_ranks_decay_parameters_that_nothing_uses(patch):
    """A parameter keeps the gradient of zeros that DDP gives it."""
    from instruct_lab.training.zero_gradients import ZeroGradients

    patch.setattr(ZeroGradients, "remove_unused", lambda self, num_ranks: self.has_gradient.clear())


@bug
def every_rank_trains_on_the_same_examples(patch):
    """Every rank takes the first rank's share of a batch, so its examples count twice."""
    from instruct_lab.batching import BatchLoader

    create = BatchLoader.__init__

    def create_first(self, *arguments, rank=0, **options):
        create(self, *arguments, rank=0, **options)

    patch.setattr(BatchLoader, "__init__", create_first)


@bug
def a_rank_counts_only_its_own_tokens(patch):
    """The sums of the other ranks are left out."""
    from instruct_lab.training.module import TuningModule

    patch.setattr(TuningModule, "_summed_over_devices", lambda self, values: values.clone())


# ---- batches


@bug
def padding_is_trained(patch):
    """Padding is a target token, as if the pad token were one of the answer's."""
    from instruct_lab.batching import IGNORED
    from instruct_lab.batching.padded import Padded

    pad = Padded._pad
    patch.setattr(Padded, "_pad", lambda self, rows, padding: pad(self, rows, 0 if padding == IGNORED else padding))


@bug
def padding_is_attended(patch):
    """The attention mask is 1 everywhere."""
    from instruct_lab.batching.padded import Padded

    collate = Padded.collate

    def attend(self, examples, pad_token_id):
        batch = collate(self, examples, pad_token_id)
        return dataclasses.replace(batch, attention_mask=batch.attention_mask.new_ones(batch.attention_mask.shape))

    patch.setattr(Padded, "collate", attend)


@bug
def a_group_that_is_not_full_is_filled_with_others(patch):
    """Examples that do not fill up a group of similar length give way to examples that the batches have already."""
    from instruct_lab.batching import BatchLoader, loader

    order = BatchLoader.order

    def repeat(self, epoch):
        found = order(self, epoch)
        full = len(found) // loader.GROUP * loader.GROUP
        if self._group_by_length:
            found[full:] = found[: len(found) - full].copy()
        return found

    patch.setattr(BatchLoader, "order", repeat)


@bug
def packed_texts_see_each_other(patch):
    """Attention in a packed row does not end at the border of a text."""
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from instruct_lab.model import packed_attention

    def attend(module, query, key, value, attention_mask, **options):
        if attention_mask is not None and attention_mask.dtype == torch.int32:
            attention_mask = attention_mask[..., [0, -1]]
        return packed_attention.attend(module, query, key, value, attention_mask, **options)

    patch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, packed_attention.NAME, attend)
    _leave_out_the_check(patch)


@bug
def positions_of_packed_texts_go_on(patch):
    """Positions in a packed row do not start again at each text."""
    import torch

    from instruct_lab.objective import target_logits

    lay_out = target_logits.packed_inputs

    def count(model, batch):
        packed = lay_out(model, batch)
        positions = packed.arguments["position_ids"]
        packed.arguments["position_ids"] = torch.arange(positions.shape[1]).expand_as(positions)
        return packed

    patch.setattr(target_logits, "packed_inputs", count)


@bug
def a_label_crosses_a_border(patch):
    """The last token of a text in a packed row has to predict the first token of the next text."""
    from torch.nn import functional

    from instruct_lab.objective import target_logits

    compute = target_logits.target_values

    def across(model, batch, evaluate):
        if batch.packing is None:
            return compute(model, batch, evaluate)
        wider = {name: functional.pad(getattr(batch, name), (0, 1)) for name in ("input_ids", "attention_mask")}
        labels = functional.pad(batch.labels, (0, 1), value=-100)
        for text, length in enumerate(batch.attention_mask.sum(dim=1)[:-1].tolist()):
            labels[text, length] = batch.input_ids[text + 1, 0]
        return compute(model, dataclasses.replace(batch, labels=labels, **wider), evaluate)

    patch.setattr(target_logits, "target_values", across)


def _leave_out_the_check(patch):
    from instruct_lab.training import stages

    patch.setattr(stages, "check_packing", lambda model: None)


@bug
def rows_do_not_train_their_shared_prefix(patch):
    """No gradient flows from the rows back into the keys and values of the prefix that they share."""
    from instruct_lab.objective import shared_prefix

    take = shared_prefix._take_rows

    def take_detached(tensor, indices):
        return take(tensor.detach() if tensor.dim() == 4 else tensor, indices)  # keys and values, not hidden states

    patch.setattr(shared_prefix, "_take_rows", take_detached)


@bug
def positions_restart_after_a_shared_prefix(patch):
    """The positions of what follows a shared prefix start at 0."""
    from instruct_lab.batching import padded

    share = padded.share_prefixes

    def restart(input_ids, lengths):
        tree = share(input_ids, lengths)
        for level in [] if tree is None else tree.levels[1:]:
            level.position_ids -= level.position_ids[:, :1].clone()
            level.position_ids *= level.attention_mask
        return tree

    patch.setattr(padded, "share_prefixes", restart)


# ---- attention and memory


@bug
def sdpa_ignores_the_mask(patch):
    """One backend is causal, but attends to padding on the left, as if its mask were not given."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attend_to_all(module, query, key, value, attention_mask, **options):
        options["is_causal"] = query.shape[2] > 1
        return attend(module, query, key, value, None, **options)

    patch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", attend_to_all)


@bug
def sdpa_scales_by_the_width(patch):
    """One backend divides the scores by the width of a head instead of its root."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def scale(module, query, key, value, attention_mask, **options):
        return attend(module, query, key, value, attention_mask, **options | {"scaling": 1 / query.shape[-1]})

    patch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", scale)


@bug
def dropout_differs_in_the_second_forward_pass(patch):
    """Gradient checkpointing draws dropout again when it computes activations again."""
    from instruct_lab.model import base

    def enable(model, how):
        if how != "none":
            model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})

    patch.setattr(base, "checkpoint_gradients", enable)


# ---- answers


@bug
def positions_count_the_padding(patch):
    """Positions in decoding start at the left end of a row, padding included."""
    import torch
    from transformers import GPT2LMHeadModel

    forward = GPT2LMHeadModel.forward

    def count(self, *arguments: Any, **options: Any):
        if options.get("position_ids") is not None and not self.training:
            cache = options.get("past_key_values")
            start = 0 if cache is None else cache.get_seq_length()
            width = options["input_ids"].shape[1]
            options["position_ids"] = torch.arange(start, start + width)[None].expand(len(options["input_ids"]), -1)
        return forward(self, *arguments, **options)

    patch.setattr(GPT2LMHeadModel, "forward", count)


@bug
def a_shared_prefix_is_one_token_too_long(patch):
    """The prefix that is computed once for all prompts contains a token of the first prompt only."""
    from instruct_lab.generation import decoding

    find = decoding.shared_length

    def find_more(prompts):
        shared = find(prompts)
        return min(shared + 1, min(map(len, prompts)) - 1) if shared else 0

    patch.setattr(decoding, "shared_length", find_more)


@bug
def an_adapter_is_merged_at_twice_its_scale(patch):
    """Merging adds the adapter's product with a scale that is applied already."""
    from peft.tuners.lora import LoraLayer

    from instruct_lab.tuning.peft_method import PeftMethod

    merge = PeftMethod.merge

    def merge_twice(self, loaded):
        for module in loaded.model.modules():
            if isinstance(module, LoraLayer):
                module.scaling = {name: value * value for name, value in module.scaling.items()}
        return merge(self, loaded)

    patch.setattr(PeftMethod, "merge", merge_twice)


@bug
def validation_draws_from_the_random_state_of_training(patch):
    """Decoding in a validation moves the random state that dropout draws from."""
    import torch

    from instruct_lab.training.module import TuningModule

    start = TuningModule.on_validation_epoch_start
    patch.setattr(TuningModule, "on_validation_epoch_start", lambda self: (torch.rand(1), start(self))[1])


# ---- data


@bug
def parts_come_as_they_are_done(patch):
    """Parts that the main process did come before parts that a worker is still doing."""
    from instruct_lab.cache import parallel

    in_order = parallel.Workers.map_in_order

    def unordered(self, function, pickled, parts):
        results = list(in_order(self, function, pickled, parts))
        yield from [*results[1::2], *results[::2]] if self._workers else results

    patch.setattr(parallel.Workers, "map_in_order", unordered)


@bug
def the_key_of_examples_lacks_the_template(patch):
    """Examples that another template made are taken for these."""
    from instruct_lab.template import Template
    from instruct_lab.training import datamodule

    describe = datamodule.describe
    patch.setattr(datamodule, "describe", lambda value: "" if isinstance(value, Template) else describe(value))


@bug
def the_key_of_the_base_model_lacks_the_model(patch):
    """The answers of another base model are taken for those of this one."""
    from instruct_lab.evaluation import base_model

    describe = base_model._depends_on
    patch.setattr(base_model, "_depends_on", lambda *given: describe(*given) | {"weights": "", "model": ""})


# ---- what has nothing to do with the results


@bug
def trials_train_the_shared_weights(patch):
    """A trial that trains all weights gets those that its process keeps, which are not checked."""
    from instruct_lab.training import shared

    copied = shared._copied
    patch.setattr(shared, "_copied", lambda loaded, private: copied(loaded, False))
    patch.setattr(shared.SharedModels, "_unchanged", lambda self, kept, key, digest: kept.get(key))


@bug
def the_order_depends_on_the_hash_of_a_text(patch):
    """Examples are shuffled with Python's hash of a text, which is another one in every process."""
    from instruct_lab.batching import loader

    class Random:
        def __new__(cls, seed):
            return random.Random(hash(seed))

    patch.setattr(loader, "random", types.SimpleNamespace(Random=Random))


@bug
def a_tracker_draws_from_the_random_state(patch):
    """A tracker draws a random number for each logged line."""
    import torch

    from instruct_lab.tracker.recorder import Recorder

    log = Recorder.log

    def draw(self, *arguments, **options):
        if self.sessions:
            torch.rand(1)
        log(self, *arguments, **options)

    patch.setattr(Recorder, "log", draw)


@bug
def the_seed_depends_on_the_name(patch):
    """The random state of training is set from the folder of the run's record."""
    import os

    from instruct_lab.training import stages
    from instruct_lab.training.names import RUN_PATH_VARIABLE

    seed = stages.pl.seed_everything

    def seed_by_name(number, **options):
        parts = os.environ[RUN_PATH_VARIABLE].split("/")
        return seed(number + sum(map(len, parts[-3:-1])), **options)

    patch.setattr(stages.pl, "seed_everything", seed_by_name)
