"""Lightning saves and restores the loader's position, exactly."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from instruct_lab.batching import Example, Padded

EXAMPLES = [Example([index, index], [index, index], str(index)) for index in range(1, 24)]


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, tuple(batch.input_ids[:, 0].tolist())))
        return self.layer(batch.input_ids[:, :1].float()).sum() * 1e-6

    def validation_step(self, batch, index):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def fit(path, *, resume=None, every=None, stop=None, epochs=3, epoch_ends=False, **options):
    callbacks = []
    if every or epoch_ends:
        when = {"save_on_train_epoch_end": True} if epoch_ends else {"every_n_train_steps": every}
        callbacks = [ModelCheckpoint(dirpath=path, filename="{step}", save_top_k=-1, **when)]
    limits = {"max_epochs": epochs} if stop is None else {"max_epochs": epochs, "max_steps": stop}
    trainer = pl.Trainer(
        **limits, callbacks=callbacks, logger=False, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=bool(callbacks), num_sanity_val_steps=1,
        use_distributed_sampler=False, **options,
    )  # fmt: skip
    batching = Padded(batch_size=4)
    loaders = [batching.loader(EXAMPLES, batch_tokens=limit, seed=3, pad_token_id=0) for limit in (None, 4)]
    module = Recorder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, *loaders, ckpt_path=resume, weights_only=resume and True)
    return module.seen


def test_epochs_are_whole_and_differ(tmp_path):
    seen = fit(tmp_path)
    assert len(seen) == 18
    for epoch in range(3):
        assert sorted(n for e, batch in seen if e == epoch for n in batch) == list(range(1, 24))
    assert [batch for epoch, batch in seen if epoch == 0] != [batch for epoch, batch in seen if epoch == 1]


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 18))
def test_a_run_resumed_from_any_step_sees_the_batches_of_the_uninterrupted_one(tmp_path, step):
    whole = fit(tmp_path / "whole")
    fit(tmp_path / "cut", every=step, stop=step, val_check_interval=4)
    checkpoint = torch.load(tmp_path / "cut" / f"step={step}.ckpt", weights_only=True)
    (state,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    assert (state["epoch"], state["position"]) == ((step - 1) // 6, (step - 1) % 6 + 1)
    assert fit(tmp_path / "cut", resume=tmp_path / "cut" / f"step={step}.ckpt", val_check_interval=4) == whole[step:]


def test_a_run_resumed_from_the_end_of_an_epoch_starts_the_next(tmp_path):
    whole = fit(tmp_path / "whole", epoch_ends=True)
    for step in (6, 12):
        assert fit(tmp_path / "again", resume=tmp_path / "whole" / f"step={step}.ckpt") == whole[step:]


def test_a_run_resumed_inside_an_accumulated_step_repeats_no_batch(tmp_path):
    whole = fit(tmp_path / "whole", every=1, accumulate_grad_batches=2)
    resumed = fit(tmp_path / "again", resume=tmp_path / "whole" / "step=4.ckpt", accumulate_grad_batches=2)
    assert resumed == whole[8:]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [2, 5])
def test_limited_epochs_resume_too(tmp_path, limit):
    whole = fit(tmp_path / "whole", limit_train_batches=limit, every=1)
    assert [batch for _, batch in whole[:limit]] != [batch for _, batch in whole[limit : 2 * limit]]
    for step in range(1, 3 * limit):
        checkpoint = tmp_path / "whole" / f"step={step}.ckpt"
        assert fit(tmp_path / "again", resume=checkpoint, limit_train_batches=limit) == whole[step:], step


def test_a_run_of_limited_epochs_resumed_from_the_end_of_one_starts_the_next(tmp_path):
    whole = fit(tmp_path / "whole", epoch_ends=True, limit_train_batches=2)
    assert fit(tmp_path / "again", resume=tmp_path / "whole" / "step=2.ckpt", limit_train_batches=2) == whole[2:]


@pytest.mark.slow
def test_a_run_bounded_in_steps_alone_resumes_from_any_checkpoint(tmp_path):
    bounds = {"epochs": -1, "stop": 20}
    whole = fit(tmp_path / "ends", epoch_ends=True, **bounds)
    fit(tmp_path / "steps", every=1, **bounds)
    for step in (6, 12, 18):
        resumed = fit(tmp_path / "again", resume=tmp_path / "ends" / f"step={step}.ckpt", every=1, **bounds)
        assert resumed == whole[step:]
        assert fit(tmp_path / "b", resume=tmp_path / "again" / f"step={step + 1}.ckpt", **bounds) == whole[step + 1 :]
    for step in range(1, 20):
        assert fit(tmp_path / "c", resume=tmp_path / "steps" / f"step={step}.ckpt", **bounds) == whole[step:]
