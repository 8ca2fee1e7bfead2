"""Records written before packages were renamed are read with the names that classes have now."""

import yaml

from instruct_lab.records import RunRecord


def test_a_record_of_an_earlier_version_names_the_classes_of_today(tmp_path):
    config = {
        "optimizer": {"_target_": "instruct_lab.optimization.AdamW", "lr": 0.1},
        "lr_scheduler": {"_target_": "instruct_lab.optimization.Cosine"},
        "tracker": {"wandb": {"_target_": "instruct_lab.tracking.Wandb", "tags": [{"_target_": "their.own.Thing"}]}},
        "evaluation": {"_target_": "instruct_lab.training.Evaluation"},
        "callbacks": {"checkpoint": {"_target_": "instruct_lab.training.Checkpoint"}},
        "batching": {"_target_": "instruct_lab.batching.Padded", "batch_size": 4, "evaluation_batch_size": 16},
        "generation": {"_target_": "instruct_lab.generation.Generation", "num_beams": 4, "batch_size": 16},
    }
    record = RunRecord.create(tmp_path, "run", config, [])
    assert yaml.safe_load((record.path / "config.yaml").read_text()) == config, "what is on disk stays"
    found = RunRecord.open(record.path).config
    assert found["optimizer"] == {"_target_": "instruct_lab.optimizer.AdamW", "lr": 0.1}
    assert found["lr_scheduler"]["_target_"] == "instruct_lab.lr_scheduler.Cosine"
    assert found["tracker"]["wandb"]["_target_"] == "instruct_lab.tracker.Wandb"
    assert found["tracker"]["wandb"]["tags"][0]["_target_"] == "their.own.Thing"
    assert found["evaluation"]["_target_"] == "instruct_lab.evaluation.Evaluation"
    assert found["callbacks"]["checkpoint"]["_target_"] == "instruct_lab.callbacks.Checkpoint"
    assert found["batching"] == {"_target_": "instruct_lab.batching.Padded", "batch_size": 4}
    assert found["generation"] == {"_target_": "instruct_lab.generation.Generation", "num_beams": 4}
