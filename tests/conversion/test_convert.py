"""Configs of other tools become studies that pass the check, and each setting is accounted for."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from instruct_lab import cli
from instruct_lab.conversion import TOOLS, convert, read_source, write_study
from instruct_lab.conversion.rules import find_rule
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.check import check

LLAMA_SFT = {
    "model_name_or_path": "acme/tiny-chat",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 12,
    "lora_target": "q_proj,v_proj",
    "dataset": "greetings, letters",
    "template": "llama3",
    "cutoff_len": 700,
    "max_samples": 50,
    "val_size": 0.2,
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 4,
    "learning_rate": "3e-4",
    "num_train_epochs": 2.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "bf16": True,
    "eval_strategy": "steps",
    "eval_steps": 10,
    "packing": True,
}
LLAMA_DPO = {
    "model_name_or_path": "acme/tiny-chat",
    "stage": "dpo",
    "finetuning_type": "full",
    "pref_beta": 0.3,
    "pref_loss": "ipo",
    "dataset": "pairs",
    "template": "qwen",
    "max_steps": 20,
    "report_to": "none",
}
LLAMA_PT = {
    "model_name_or_path": "acme/base",
    "stage": "pt",
    "finetuning_type": "freeze",
    "freeze_trainable_layers": 3,
    "dataset": "book",
    "pure_bf16": True,
    "lr_scheduler_type": "constant",
    "warmup_steps": 5,
}
AXOLOTL_QLORA = {
    "base_model": "acme/tiny-base",
    "load_in_4bit": True,
    "adapter": "qlora",
    "lora_r": 8,
    "lora_alpha": 4,
    "lora_dropout": 0.1,
    "lora_target_linear": True,
    "datasets": [{"path": "acme/rows", "type": "alpaca", "revision": "v2"}],
    "val_set_size": 0.05,
    "sequence_len": 900,
    "sample_packing": True,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 3,
    "num_epochs": 4,
    "optimizer": "adamw_bnb_8bit",
    "learning_rate": 0.0002,
    "train_on_inputs": True,
    "evals_per_epoch": 4,
    "wandb_project": "letters",
    "bf16": "auto",
}
AXOLOTL_CHAT = {
    "base_model": "acme/tiny-chat",
    "datasets": [
        {
            "path": "acme/talk",
            "type": "chat_template",
            "field_messages": "conversation",
            "message_property_mappings": {"role": "speaker", "content": "text"},
            "roles": {"assistant": ["bot"]},
        },
        {"path": "acme/words", "type": "completion", "field": "body"},
    ],
    "chat_template": "chatml",
    "micro_batch_size": 1,
    "sequence_len": 256,
    "excess_length_strategy": "truncate",
    "learning_rate": 1e-5,
    "warmup_steps": 7,
    "lr_scheduler": "linear",
}
AXOLOTL_ORPO = {
    "base_model": "acme/tiny-chat",
    "rl": "orpo",
    "orpo_alpha": 0.25,
    "adapter": "lora",
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_target_modules": ["q_proj"],
    "datasets": [{"path": "acme/pairs", "type": "chat_template.argilla"}],
    "micro_batch_size": 1,
    "sequence_len": 512,
    "learning_rate": 1e-6,
}
TRL_SFT = (
    "accelerate launch trl/scripts/sft.py --model_name_or_path acme/tiny-chat --dataset_name acme/talk "
    "--per_device_train_batch_size 5 --gradient_accumulation_steps 2 --warmup_steps 0.1 --packing "
    "--no_remove_unused_columns --use_peft --lora_target_modules q_proj k_proj --eval_strategy steps --eval_steps 30"
)
TRL_DPO = (
    "trl dpo --model_name_or_path=acme/tiny-chat --dataset_name=acme/pairs --beta=0.2 --loss_type hinge --max_steps 9"
)
TRL_KTO = (
    "trl kto --model_name_or_path acme/tiny-chat --dataset_name acme/labels --desirable_weight 1.5 --report_to none"
)
TRL_LIST = {
    "model_name_or_path": "acme/tiny-chat",
    "use_peft": True,
    "datasets": [
        {"path": "acme/talk", "name": "long", "split": "half", "fraction": 0.75},
        {"path": "acme/words", "columns": ["text"], "fraction": 0.25},
    ],
    "test_split_size": 0.1,
    "eval_strategy": "epoch",
}
TRL_MIXTURE = {
    "model_name_or_path": "acme/tiny-chat",
    "dataset_mixture": {
        "datasets": [
            {
                "id": "acme/pairs",
                "config": "en",
                "split": "train_prefs",
                "columns": ["chosen", "rejected"],
                "weight": 0.5,
            },
            {"id": "acme/more", "columns": ["chosen", "rejected"], "weight": 1.0},
        ],
        "seed": 3,
        "test_split_size": 200,
    },
    "beta": 0.02,
    "max_prompt_length": 300,
    "torch_dtype": "bfloat16",
    "report_to": ["wandb", "tensorboard"],
    "wandb_project": "pairs",
    "chat_template": "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}",
}
TRL_MIXER = {
    "model_name_or_path": "acme/tiny-base",
    "dataset_mixer": {"acme/talk": 1.0, "acme/more": 0.25},
    "dataset_splits": ["train_sft", "test_sft"],
    "use_flash_attention_2": False,
    "max_seq_length": 600,
}


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    info = {
        "greetings": {"file_name": "greetings.json", "columns": {"prompt": "ask", "response": "reply"}},
        "letters": {"hf_hub_url": "acme/letters", "formatting": "sharegpt", "columns": {"messages": "turns"}},
        "pairs": {"file_name": "pairs.json", "ranking": True, "formatting": "sharegpt"},
        "book": {"hf_hub_url": "acme/book", "columns": {"prompt": "chapter"}},
    }
    Path("data/dataset_info.json").write_text(json.dumps(info))
    Path("data/greetings.json").write_text('[{"ask": "Hi?", "reply": "Hello."}]')
    Path("data/pairs.json").write_text('[{"conversations": [], "chosen": {}, "rejected": {}}]')
    return tmp_path


def converted(config, name="one"):
    if isinstance(config, str):
        return convert(read_source(config.split()))
    Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
    return convert(read_source([f"{name}.yaml"]))


def row(result, key):
    return next(row for row in result.rows if row.key == key)


CONFIGS = [
    LLAMA_SFT,
    LLAMA_DPO,
    LLAMA_PT,
    AXOLOTL_QLORA,
    AXOLOTL_CHAT,
    AXOLOTL_ORPO,
    TRL_SFT,
    TRL_DPO,
    TRL_KTO,
    TRL_LIST,
    TRL_MIXTURE,
    TRL_MIXER,
]


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_each_setting_has_a_row_and_the_study_passes_the_check(config, lab):
    result = converted(config)
    keys = {row.key for row in result.rows}
    assert set(result.source.config) <= keys
    assert not [row for row in result.rows if row.kind == "unknown"]
    write_study(result, lab)
    assert check([f"experiments={result.source.name}"]).problems == []


def test_llamafactory_values_are_the_same_here():
    result = converted(LLAMA_SFT)
    expected = {
        "tuning.r": 12,
        "tuning.alpha": 24,
        "tuning.target_modules": ["q_proj", "v_proj"],
        "batching.batch_size": 3,
        "trainer.accumulate_grad_batches": 4,
        "trainer.val_check_interval": 40,
        "optimizer.lr": 3e-4,
        "batching.max_tokens": 700,
        "trainer.precision": "bf16-mixed",
        "seed": 42,
    }
    assert {key: result.values[key] for key in expected} == expected
    assert result.data["_target_"].endswith("Mixture")
    first = result.data["parts"]["part1"]
    assert first["format"] == {"_target_": "instruct_lab.data.Alpaca", "instruction": "ask", "output": "reply"}
    assert first["train"]["greetings"]["max_rows"] == 50
    assert first["split"]["validation"] == 0.2
    assert row(result, "packing").kind == "different"


def test_a_constant_schedule_has_no_warm_up():
    result = converted(LLAMA_PT)
    assert result.choices["lr_scheduler"] == "constant"
    assert result.values["lr_scheduler.warmup_ratio"] == 0.0
    assert "lr_scheduler.warmup_steps" not in result.values


def test_steps_win_over_epochs_and_the_loss_over_the_stage():
    result = converted(LLAMA_DPO)
    assert result.choices["objective"] == "ipo"
    assert result.values["objective.beta"] == 0.3
    assert (result.values["trainer.max_steps"], result.values["trainer.max_epochs"]) == (20, -1)


def test_axolotl_values_are_the_same_here():
    result = converted(AXOLOTL_QLORA)
    expected = {
        "model.quantization": "4bit",
        "tuning.target_modules": "all-linear",
        "trainer.val_check_interval": 0.25,
        "template.train_on": "all",
        "lr_scheduler.warmup_ratio": 0.03,
        "tracker.wandb.project": "letters",
        "batching.overlong": "drop",
    }
    assert {key: result.values[key] for key in expected} == expected
    assert result.choices["template"] == "alpaca"
    assert result.choices["optimizer"] == "adamw_8bit"
    assert result.data["train"]["rows"]["revision"] == "v2"


def test_axolotl_data_sets_of_two_types_are_a_mixture():
    parts = converted(AXOLOTL_CHAT).data["parts"]
    turns = {"conversations": "conversation", "role": "speaker", "content": "text", "roles": {"bot": "assistant"}}
    assert parts["part1"]["format"] == {"_target_": "instruct_lab.data.ShareGPT", **turns}
    assert parts["part2"]["format"] == {"_target_": "instruct_lab.data.PlainText", "text": "body"}


def test_preference_columns_and_the_weight_of_orpo():
    result = converted(AXOLOTL_ORPO)
    assert result.values["objective.weight"] == 0.25
    assert result.data["format"]["chosen"] == "chosen_response"


def test_trl_arguments_and_defaults():
    result = converted(TRL_SFT)
    expected = {
        "optimizer.lr": 2e-5,
        "lr_scheduler.warmup_ratio": 0.1,
        "tuning.target_modules": ["q_proj", "k_proj"],
        "trainer.val_check_interval": 60,
        "template.train_on": "all",
        "tuning.dropout": 0.05,
    }
    assert {key: result.values[key] for key in expected} == expected
    assert row(result, "learning_rate").is_default
    assert result.source.config["remove_unused_columns"] is False


def test_a_part_without_a_fraction_does_not_take_over_that_of_another():
    weighted = [{"path": "acme/talk", "fraction": 0.75}, {"path": "acme/more"}, {"path": "acme/rest"}]
    data = converted({**TRL_LIST, "datasets": weighted}).data
    assert data["weights"] == {"part1": 0.75}  # `check` asks for that of the other part
    assert [len(part["train"]) for part in data["parts"].values()] == [1, 2]


def test_fractions_of_a_list_are_weights_of_a_mixture():
    data = converted(TRL_LIST).data
    assert (data["weights"], data["epoch"]) == ({"part1": 0.75, "part2": 0.25}, "smallest")
    assert data["parts"]["part1"]["train"]["talk"] == {
        "_target_": "instruct_lab.data.HubDataSet",
        "repository": "acme/talk",
        "revision": "main",
        "configuration": "long",
        "split": "half",
    }
    assert [part["format"]["_target_"].rpartition(".")[2] for part in data["parts"].values()] == [
        "Messages",
        "PlainText",
    ]
    assert [part["split"]["validation"] for part in data["parts"].values()] == [0.1, 0.1]


def test_shares_of_a_mixture_are_parts_of_its_splits():
    result = converted(TRL_MIXTURE, "dpo_pairs")
    assert result.choices["objective"] == "dpo"
    assert result.data["train"]["pairs"]["split"] == "train_prefs[:50%]"
    assert "split" not in result.data["train"]["more_2"]
    assert result.data["limit"] == {"validation": 200}
    assert result.data["format"]["prompt"] is None
    assert row(result, "dataset_mixture.datasets[0].weight").note
    assert result.values["template.jinja"].startswith("{%")
    assert result.values["tracker.wandb.project"] == "pairs"
    assert result.values["model.dtype"] == "bfloat16"
    assert converted(TRL_MIXER).values["batching.max_tokens"] == 600
    tests = converted(TRL_MIXER).data["validation"]
    assert [source["split"] for source in tests.values()] == ["test_sft", "test_sft"]


@pytest.mark.parametrize("report", ["wandb,tensorboard", ["wandb", "swanlab", "tensorboard"], "tensorboard wandb"])
def test_several_trackers_are_converted_together(report):
    result = converted({**TRL_MIXTURE, "report_to": report})
    assert yaml.safe_load(result.choices["tracker"]) in (["wandb", "tensorboard"], ["tensorboard", "wandb"])
    assert row(result, "report_to").kind == ("different" if "swanlab" in report else "converted")
    assert row(result, "wandb_project").kind == "converted"


def test_a_config_without_data_is_marked():
    assert row(converted({**AXOLOTL_ORPO, "datasets": []}), "(data)").kind == "different"


def test_a_single_data_set_is_not_read_beside_a_list():
    result = converted({**TRL_LIST, "dataset_name": "acme/other"})
    assert row(result, "dataset_name").kind == "same"
    assert "other" not in json.dumps(result.data)


@pytest.mark.parametrize(
    ("path", "objective", "kind"),
    [
        ("recipes/dpo/config_full.yaml", "dpo", "converted"),
        ("recipes/simple/sft-config.yaml", "supervised", "converted"),
        ("online_dpo.yaml", "supervised", "different"),
        ("nash-md.yaml", "supervised", "different"),
        ("tpo/run.yaml", "supervised", "different"),
    ],
)
def test_the_method_is_in_the_name_of_the_file_or_of_its_folder(path, objective, kind):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(yaml.safe_dump({"model_name_or_path": "acme/tiny", "dataset_name": "acme/rows"}))
    for words in ([path], ["scripts/train.py", "--config", path]):
        result = convert(read_source(words))
        assert result.choices["objective"] == objective
        assert row(result, "(method)").kind == kind


def test_simpo_is_a_loss_of_the_method_cpo():
    result = converted(
        "trl cpo --model_name_or_path acme/a --dataset_name acme/b --loss_type simpo --beta 2 --simpo_gamma 1"
    )
    assert result.choices["objective"] == "simpo"
    assert (result.values["objective.beta"], result.values["objective.gamma_ratio"]) == (2, 0.5)
    assert row(result, "cpo_alpha").kind == "different"


@pytest.mark.slow
def test_each_setting_of_the_transformers_trainer_has_a_rule():
    from transformers import TrainingArguments

    names = [field.name for field in dataclasses.fields(TrainingArguments) if field.init]
    assert len(names) > 90
    for tool in ("trl", "llamafactory"):
        assert [name for name in names if find_rule(TOOLS[tool], name) is None] == []


def test_kto_trains_adapters_and_says_so():
    result = converted(TRL_KTO)
    assert result.choices["tuning"] == "lora"
    assert row(result, "(tuning)").kind == "different"
    assert result.values["objective.desirable_weight"] == 1.5


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("lora_rnk", "not known to any"),
        ("micro_batch_size", "a key of axolotl"),
        ("dataset_train_split", "a key of TRL"),
        ("hub_modelid", "not known to any"),
        ("generation_max_lenght", "not known to any"),
        ("tensor_paralel_size", "not known to any"),
    ],
)
def test_unknown_settings_are_rows_and_not_errors(key, words):
    result = converted({**LLAMA_PT, key: 5})
    assert row(result, key).kind == "unknown"
    assert words in row(result, key).note


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stage: [sft", "Not valid YAML"),
        ("colour: red\n", "none of LLaMA-Factory, axolotl and TRL"),
        ("- 1\n- 2\n", "mapping"),
        ("defaults: []\n", "needs no conversion"),
        ("model_name_or_path: acme/tiny\ntemplate: qwen\nexport_dir: merged\n", "trains nothing"),
    ],
)
def test_a_file_that_is_no_config_is_one_paragraph(text, words):
    Path("bad.yaml").write_text(text)
    with pytest.raises(InstructLabError, match=words) as caught:
        read_source(["bad.yaml"])
    assert "\n" not in str(caught.value)


def test_reward_from_generated_answers_has_no_equal():
    result = converted("trl grpo --model_name_or_path acme/tiny --dataset_name acme/rows --num_generations 4")
    assert row(result, "(method)").kind == "different"
    assert row(result, "num_generations").kind == "different"


def test_the_command_writes_once_and_prints_json(capsys):
    Path("mine.yaml").write_text(yaml.safe_dump(AXOLOTL_CHAT))
    assert cli.main(["convert", "mine.yaml"]) == 0
    assert Path("experiments/mine.yaml").is_file()
    assert Path("conf/data/mine.yaml").is_file()
    assert cli.main(["convert", "mine.yaml"]) == 2
    capsys.readouterr()
    assert cli.main(["convert", "--print", "--json", "mine.yaml"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["tool"] == "axolotl"
    assert {setting["kind"] for setting in printed["settings"]} <= {"converted", "same", "different", "unknown"}


@pytest.mark.parametrize("width", ["60", "80", "100"])
def test_a_narrow_terminal_breaks_no_key_and_no_override(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    Path("mine.yaml").write_text(yaml.safe_dump(LLAMA_SFT))
    assert cli.main(["convert", "--print", "mine.yaml"]) == 0
    words = capsys.readouterr().out.partition("---")[0].replace(";", " ").replace(":", " ").split()
    assert {*LLAMA_SFT} <= {*words}
    assert "trainer.accumulate_grad_batches=4" in words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({**AXOLOTL_ORPO, "optimizer": "adafactor", "adam_beta2": 0.95}, "adam_beta2"),
        ({**AXOLOTL_ORPO, "optimizer": "lion_pytorch", "adam_epsilon": 1e-6}, "adam_epsilon"),
        ({**AXOLOTL_ORPO, "lr_scheduler": "constant", "cosine_min_lr_ratio": 0.1}, "cosine_min_lr_ratio"),
        ({**LLAMA_DPO, "pissa_init": True}, "pissa_init"),
        ({**LLAMA_DPO, "quantization_bit": 4}, "quantization_bit"),
        (f"{TRL_DPO} --load_in_8bit", "load_in_8bit"),
    ],
)
def test_what_the_chosen_component_cannot_do_is_a_difference(config, key, lab):
    result = converted(config)
    assert row(result, key).kind == "different"
    assert row(result, key).overrides == ()
    write_study(result, lab)
    assert check([f"experiments={result.source.name}"]).problems == []


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ({**AXOLOTL_CHAT, "adapter": None}, {"tuning": "full"}),
        ({**AXOLOTL_CHAT, "lr_scheduler": ""}, {"lr_scheduler": "cosine"}),
        ({**LLAMA_SFT, "lr_scheduler_type": None}, {"lr_scheduler": "linear"}),
    ],
)
def test_an_empty_setting_has_the_default_of_the_tool(config, overrides):
    assert converted(config).choices.items() >= overrides.items()


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({**LLAMA_SFT, "use_cpu": False}, "trainer"),
        ({**AXOLOTL_CHAT, "dataset_exact_deduplication": False}, "preprocessing/step"),
        ({**AXOLOTL_CHAT, "reward_model": False}, "metrics"),
        ({**LLAMA_PT, "use_galore": False}, "optimizer"),
    ],
)
def test_a_switch_that_is_off_chooses_nothing(config, key):
    assert converted(config).choices.get(key) in (None, "adamw")


def test_a_reward_model_is_measured_by_preferences():
    choices = converted({**AXOLOTL_ORPO, "rl": None, "reward_model": True}).choices
    assert (choices["objective"], choices["metrics"]) == ("reward", "preference")


def test_an_adapter_that_does_not_exist_here_is_a_difference():
    result = converted({**AXOLOTL_CHAT, "adapter": "llama-adapter", "bf16": "auto"})
    assert row(result, "adapter").kind == "different"


@pytest.mark.parametrize("names", ["greetings,letters", "greetings, letters", ["greetings", "letters"]])
def test_evaluation_data_are_named_as_training_data(names):
    data = converted({**LLAMA_SFT, "dataset": names, "eval_dataset": names}).data
    assert [list(part["validation"]) for part in data["parts"].values()] == [["greetings"], ["letters"]]


def test_evaluation_data_in_a_format_of_their_own_are_reported():
    tests = [{"path": "chat.jsonl", "type": "chat_template"}]
    result = converted({**AXOLOTL_QLORA, "datasets": [{"path": "a.jsonl", "type": "alpaca"}], "test_datasets": tests})
    lost = row(result, "test_datasets[0]")
    assert (lost.kind, lost.value) == ("different", "chat.jsonl")
    assert "validation" not in result.data
    assert result.values["evaluation.splits"] == []


@pytest.mark.parametrize("method", ["dpo", "kto", "sft"])
def test_a_method_that_is_the_value_of_an_argument_is_no_command(method):
    words = ["--model_name_or_path", "acme/tiny-chat", "--stage", method, "--dataset", "pairs"]
    result = convert(read_source(words, "llamafactory"))
    assert result.source.config["stage"] == method
    assert result.source.config["model_name_or_path"] == "acme/tiny-chat"


@pytest.mark.slow
@pytest.mark.parametrize(("stem", "name"), [("größe 2", "gr_e_2"), ("配置", "converted"), ("a=b,c", "a_b_c")])
def test_the_name_of_a_study_can_be_typed_without_quotes(stem, name, lab):
    result = converted(AXOLOTL_CHAT, stem)
    assert result.source.name == name
    write_study(result, lab)
    assert check([f"experiments={name}"]).problems == []


@pytest.mark.parametrize(
    ("settings", "batches"),
    [({"eval_steps": 10}, 40), ({"logging_steps": 5}, 20), ({"logging_steps": 5, "eval_steps": 10}, 40), ({}, 2000)],
)
def test_steps_between_evaluations_are_those_of_logging_if_none_are_given(settings, batches):
    without = {key: value for key, value in LLAMA_SFT.items() if key != "eval_steps"}
    assert converted({**without, **settings}).values["trainer.val_check_interval"] == batches


@pytest.mark.parametrize(
    "config",
    [
        {"model": "acme/tiny", "train_dataset": "rows.yaml", "micro_batch_size": 1, "cutoff_len": 64},
        {"model": "acme/tiny", "peft_config": {"name": "lora", "r": 4}},
        {"model": "acme/tiny", "model_class": "llm", "dist_config": {"name": "fsdp2"}, "learning_rate": 1e-4},
    ],
)
def test_the_second_layout_of_llama_factory_is_refused_and_not_half_converted(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert cli.main(["convert", "second.yaml"]) == 2
    assert "LLaMA-Factory's v1 examples" in capsys.readouterr().err
    assert not (tmp_path / "experiments").exists()
