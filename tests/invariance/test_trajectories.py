"""Configs that must give one trajectory do, and would not with a bug that other frameworks have had.

Each class runs through the command line on a tiny model in float32. Compared are every logged value of every step, the
last weights, and the answers and results at the end; steps, counts and answers must be equal, numbers must agree within
the tolerance of the class. For each class a plausible bug is planted, with which the same comparison must fail.
"""

import dataclasses

import planted
import pytest
from support.exhaustive import exhaustive
from trajectory import AfterAnother, Continued, NewProcess, SecondTrial, TwoRanks, Variant, WithWorkers, distance

from instruct_lab.batching import encoded
from instruct_lab.data import mapping


def model(option, *settings):
    return (f"model={option}", *(f"+model.weights.settings.{setting}" for setting in settings))


DECODER = model("tiny_random", "initializer_range=0.4")  # so that attention decides and answers differ
GPT2 = (
    "model=tiny_random",
    "model.weights.architecture=gpt2",
    "~model.weights.settings",
    "+model.weights.settings={n_embd: 16, n_layer: 2, n_head: 2, n_positions: 256, initializer_range: 0.4}",
)
GPT2_WITHOUT_DROPOUT = (
    *GPT2[:-1],
    "+model.weights.settings={n_embd: 16, n_layer: 2, n_head: 2, n_positions: 2048, initializer_range: 0.4, "
    "resid_pdrop: 0.0, embd_pdrop: 0.0, attn_pdrop: 0.0}",
)
ROWS = ("batching.max_tokens=200", "batching.row_tokens=300")
BERT = model("tiny_encoder", "initializer_range=0.4", "hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0")
ENCODER = (*BERT, "template=contents", "objective=masked", "metrics=masked")
ENCODER_DECODER = (*model("tiny_encoder_decoder", "dropout_rate=0.0"), "template=contents")
CORRUPTED = (*ENCODER_DECODER, "objective=span_corruption")
SHORT = (
    *("data=mine", "tracker=none", "trainer=cpu", "trainer.val_check_interval=1.0", "trainer.max_epochs=2"),
    "trainer.gradient_clip_val=3.3",  # some steps are clipped and some are not
    *("batching.batch_size=8", "optimizer.lr=1e-3", "generation.max_new_tokens=6", "evaluation.max_examples=4"),
    *("evaluation.before=false", "evaluation.baselines=false", "evaluation.during_examples=4"),
)
ROUNDING = 1e-5
"""Tolerance of configs that add the same numbers in another order; they differ by at most 3e-6."""
DROPOUT = "tuning.dropout=0.2"
FULL_BATCH = ("batching.batch_size=64", "trainer.max_epochs=3")


def split(batch_size, accumulate, *more):
    return Variant((f"batching.batch_size={batch_size}", f"trainer.accumulate_grad_batches={accumulate}", *more))


@dataclasses.dataclass(frozen=True)
class Class:
    """Configs that must give one trajectory.

    Args:
        variants: the configs; each is compared with the first.
        bugs: bugs that the class must detect, each of which changes the last variant.
        tolerance: the largest relative difference of a number; 0: the runs are identical to the last bit.
        common: overrides of all variants.
        only_training: whether only training steps and weights must agree, since the configs evaluate differently.
    """

    variants: tuple[Variant, ...]
    bugs: tuple[str, ...]
    tolerance: float = 0.0
    common: tuple[str, ...] = DECODER
    only_training: bool = False


def split_with_small_memory(batch_size, accumulate, *more):
    small = ("+objective._target_=support.small_memory.SmallMemory", f"batching.batch_size={batch_size}")
    return (*small, f"trainer.accumulate_grad_batches={accumulate}", *more)


ONE = ("trainer.devices=1", "trainer.strategy=auto")
TWO = ("trainer.devices=2", "trainer.strategy=fsdp")


def continued(batch_size, before, after):
    overrides = (f"batching.batch_size={batch_size}", "trainer.max_steps=4", *before)
    return Continued(overrides, then=("trainer.max_steps=9", *after))


STEP_BUGS = ("mean_of_means", "only_the_last_micro_batch_is_counted", "an_incomplete_step_is_divided_as_a_complete_one")
RANK_BUGS = ("every_rank_trains_on_the_same_examples", "a_rank_counts_only_its_own_tokens")
CLASSES = {
    "micro-batches": Class(
        (split(8, 1), split(8, 1, "batching.micro_batch=3"), split(4, 2), split(1, 8), split(2, 4)), STEP_BUGS, ROUNDING
    ),
    "exhausted memory": Class(
        (
            split(8, 1),
            TwoRanks(split_with_small_memory(4, 1, "+objective.rank=1")),
            Variant(split_with_small_memory(4, 2)),
        ),
        ("a_repeated_step_counts_its_sums_twice", "a_repeated_step_adds_its_gradients_twice"),
        ROUNDING,
    ),
    "micro-batches, masked tokens": Class(
        (split(8, 1), split(4, 2, "batching.micro_batch=1"), split(2, 4)),
        ("masks_are_drawn_by_position_in_the_micro_batch",),
        ROUNDING,
        ENCODER,
    ),
    "micro-batches, corrupted spans": Class(
        (split(8, 1), split(2, 4)), ("masks_are_drawn_by_position_in_the_micro_batch",), ROUNDING, CORRUPTED
    ),
    "processes": Class(
        (split(8, 1), TwoRanks(split(4, 1).overrides), TwoRanks(split(2, 2).overrides)), RANK_BUGS, ROUNDING
    ),
    "sharded processes": Class(
        (
            split(6, 1),
            TwoRanks(split(3, 1, "batching.micro_batch=2").overrides, "fsdp"),
            TwoRanks(split(1, 3, "batching=packed").overrides, "fsdp"),
        ),
        ("the_norm_of_a_sharded_gradient_is_that_of_one_share",),
        ROUNDING,
        (*DECODER, "tuning=full", "evaluation.during_examples=3", "model.gradient_checkpointing=true"),
    ),
    "a parameter that nothing uses": Class(
        (split(8, 1), TwoRanks(split(4, 1).overrides, "fsdp"), TwoRanks(split(2, 2).overrides)),
        ("the_ranks_decay_parameters_that_nothing_uses",),
        ROUNDING,
        (
            *(*DECODER, "tuning=full", "tuning._target_=support.unused_parameter.FullWithUnusedParameter"),
            *("optimizer.weight_decay=0.5", "optimizer.lr=1e-2"),
        ),
    ),
    "other devices after a pause": Class(
        (
            Variant(("batching.batch_size=8", "trainer.max_steps=9")),
            continued(8, ONE, TWO),
            continued(4, TWO, ("trainer.devices=1", "trainer.strategy=fsdp")),
            continued(4, TWO, ONE),
        ),
        ("a_continued_run_keeps_the_batches_of_each_device",),
        ROUNDING,
        (
            *(*DECODER, "trainer.max_epochs=-1", "callbacks.checkpoint.every_steps=1", "tuning=full"),
            *("lr_scheduler=constant", "lr_scheduler.warmup_ratio=0.0"),
        ),
    ),
    "padding": Class(
        (Variant(), Variant(("batching.pad_to_multiple_of=8",)), Variant(("batching.pad_to_multiple_of=64",))),
        ("padding_is_trained",),
        ROUNDING,
    ),
    "padding of an encoder": Class(
        (Variant(), Variant(("batching.pad_to_multiple_of=64",))), ("padding_is_attended",), ROUNDING, ENCODER
    ),
    "padding of an encoder-decoder": Class(
        (Variant(), Variant(("batching.pad_to_multiple_of=64",))), ("padding_is_attended",), ROUNDING, ENCODER_DECODER
    ),
    "packed rows": Class(
        (
            Variant(),
            Variant(("batching=packed",)),
            Variant(("batching=packed", "batching.micro_batch=3")),
            Variant(("batching=packed", *ROWS)),
        ),
        ("packed_texts_see_each_other", "positions_of_packed_texts_go_on", "a_label_crosses_a_border"),
        ROUNDING,
        GPT2_WITHOUT_DROPOUT,
    ),
    "packed rows of an encoder": Class(
        (Variant(), Variant(("batching=packed", *ROWS))), ("packed_texts_see_each_other",), ROUNDING, ENCODER
    ),
    "batches of similar length": Class(
        (
            Variant(("batching.group_by_length=false", *FULL_BATCH)),
            Variant(("batching.group_by_length=true", *FULL_BATCH)),
            split(6, 8, "batching.group_by_length=true", "trainer.max_epochs=3"),
        ),
        ("a_group_that_is_not_full_is_filled_with_others",),
        ROUNDING,
    ),
    "shared prefixes": Class(
        (Variant(("batching.share_prefix=off",)), Variant()),
        ("rows_do_not_train_their_shared_prefix", "positions_restart_after_a_shared_prefix"),
        ROUNDING,
        (*DECODER, "tuning=full"),
    ),
    "shared prefixes, absolute positions": Class(
        (Variant(("batching.share_prefix=off",)), Variant()),
        ("positions_restart_after_a_shared_prefix",),
        ROUNDING,
        GPT2_WITHOUT_DROPOUT,
    ),
    "attention backends": Class(
        (Variant(("model.attention=eager",)), Variant(("model.attention=sdpa",))),
        ("sdpa_ignores_the_mask", "sdpa_scales_by_the_width"),
        ROUNDING,
    ),
    "gradient checkpointing": Class(
        (
            Variant(),
            Variant(("model.gradient_checkpointing=selective",)),
            Variant(("model.gradient_checkpointing=full",)),
        ),
        ("dropout_differs_in_the_second_forward_pass",),
        common=(*DECODER, DROPOUT),
    ),
    "batches in decoding": Class(
        (Variant(("evaluation.batch_tokens=1",)), Variant()),
        ("sdpa_ignores_the_mask", "a_shared_prefix_is_one_token_too_long"),
        ROUNDING,
    ),
    "batches in decoding, absolute positions": Class(
        (Variant(("evaluation.batch_tokens=1",)), Variant()),
        ("positions_count_the_padding",),
        ROUNDING,
        GPT2,
    ),
    "adapters merged or attached": Class(
        (Variant(("+tuning._target_=support.attached.AttachedLoRA",)), Variant()),
        ("an_adapter_is_merged_at_twice_its_scale",),
        ROUNDING,
        (*DECODER, "optimizer.lr=1e-2"),
    ),
    "validations": Class(
        (
            Variant(("evaluation.during_examples=0",)),
            Variant(("trainer.val_check_interval=0.25", "generation.do_sample=true")),
        ),
        ("validation_draws_from_the_random_state_of_training",),
        common=(*DECODER, DROPOUT),
        only_training=True,
    ),
    "processes that prepare data": Class((Variant(), WithWorkers()), ("parts_come_as_they_are_done",)),
    "cached examples": Class(
        (Variant(), AfterAnother(), AfterAnother(another=("template.train_on=all",))),
        ("the_key_of_examples_lacks_the_template",),
        common=(*DECODER, "evaluation.before=true"),
    ),
    "cached answers of the base model": Class(
        (Variant(), AfterAnother(another=("model.weights.seed=1",))),
        ("the_key_of_the_base_model_lacks_the_model",),
        common=(*DECODER, "evaluation.before=true"),
    ),
    "trials that share weights": Class(
        (Variant(), SecondTrial(first=("seed=7",))),
        ("trials_train_the_shared_weights",),
        common=(*DECODER, "tuning=full"),
    ),
    "another process": Class(
        (Variant(), NewProcess(variables=(("PYTHONHASHSEED", "7"),))),
        ("the_order_depends_on_the_hash_of_a_text",),
        common=(*DECODER, DROPOUT),
    ),
    "trackers": Class(
        (Variant(), Variant(("tracker=csv",))), ("a_tracker_draws_from_the_random_state",), common=(*DECODER, DROPOUT)
    ),
    "names and folders": Class(
        (Variant(), Variant(("name=other-name", "runs_path=elsewhere"))),
        ("the_seed_depends_on_the_name",),
        common=(*DECODER, DROPOUT),
    ),
}


DETECTED = (
    ("micro-batches", "mean_of_means"),
    ("padding", "padding_is_trained"),
    ("packed rows", "packed_texts_see_each_other"),
    ("shared prefixes", "rows_do_not_train_their_shared_prefix"),
    ("validations", "validation_draws_from_the_random_state_of_training"),
    ("cached examples", "the_key_of_examples_lacks_the_template"),
)
"""Classes and bugs that differ in kind: they are tried in every run of the tests, the others by hand."""
HONEST = {}
"""Trajectories without a bug, by variant and overrides: classes share them."""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a variant of a class; gives its trajectory."""
    monkeypatch.setattr(encoded, "PART_ROWS", 8)  # so that there are parts to share
    monkeypatch.setattr(mapping, "PART_ROWS", 8)

    def run(case, variant, bug=None):
        overrides = (*SHORT, *case.common)
        key = (type(variant), variant, overrides)
        found = HONEST.get(key) if bug is None else None
        if found is None:
            found = variant.trajectory(tmp_path / f"{len(list(tmp_path.iterdir()))}", overrides, bug)
        if bug is None:
            HONEST[key] = found
        return found.training() if case.only_training else found

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_configs_of_a_class_give_one_trajectory(run, name):
    case = CLASSES[name]
    first = run(case, case.variants[0])
    assert first.weights
    assert first.logged["train/loss"]
    for variant in case.variants[1:]:
        largest, where = distance(first, run(case, variant))
        print(f"{name}: {largest:.2g} ({where})")
        assert largest <= case.tolerance, (where, variant)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bug"),
    [
        (name, bug) if (name, bug) in DETECTED else exhaustive(name, bug)
        for name, case in CLASSES.items()
        for bug in case.bugs
    ],
)
def test_a_planted_bug_is_detected(run, name, bug):
    case = CLASSES[name]
    largest, where = distance(run(case, case.variants[0], bug), run(case, case.variants[-1], bug))
    print(f"{name}, {bug}: {largest:.2g} ({where})")
    assert largest > 10 * case.tolerance


def test_every_bug_is_planted_in_a_class():
    assert {bug for case in CLASSES.values() for bug in case.bugs} == set(planted.BUGS)
