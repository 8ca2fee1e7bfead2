"""A stand-in for the package vllm, which needs a GPU: it answers with transformers from the files that it is given."""

import sys
import types

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM

PARAMETERS = "max_tokens stop_token_ids ignore_eos repetition_penalty temperature detokenize seed top_p top_k".split()
ARGUMENTS = (
    "model skip_tokenizer_init dtype max_model_len gpu_memory_utilization generation_config enable_sleep_mode "
    "enable_lora max_loras max_lora_rank"
).split()


class SamplingParams(types.SimpleNamespace):
    def __init__(self, **arguments):
        assert set(arguments) <= set(PARAMETERS)
        super().__init__(**arguments)


class LoRARequest:
    def __init__(self, lora_name, lora_int_id, lora_path):
        self.name, self.number, self.path = lora_name, lora_int_id, lora_path


class LLM:
    started = []

    def __init__(self, **arguments):
        assert set(arguments) <= set(ARGUMENTS)
        self.arguments = arguments
        self.model = AutoModelForCausalLM.from_pretrained(arguments["model"], dtype=arguments["dtype"]).eval()
        self.is_asleep, self.adapters = False, []
        LLM.started.append(self)

    def sleep(self, level):
        assert level == 1
        assert self.arguments["enable_sleep_mode"]
        self.is_asleep = True

    def wake_up(self):
        self.is_asleep = False

    @torch.no_grad()
    def generate(self, prompts, parameters, *, lora_request, use_tqdm):
        assert not self.is_asleep
        model = self.model
        if lora_request is not None:
            assert lora_request.number not in self.adapters, "vLLM knows an adapter by its number"
            self.adapters.append(lora_request.number)
            config = PeftConfig.from_pretrained(lora_request.path)
            config.init_lora_weights = True  # vLLM reads no settings of the start of training
            model = PeftModel.from_pretrained(model, lora_request.path, config=config).eval()
            assert model.active_peft_config.r <= self.arguments["max_lora_rank"]
        outputs = [self._answer(model, one["prompt_token_ids"], p) for one, p in zip(prompts, parameters, strict=True)]
        if lora_request is not None:
            self.model = model.unload()
        return outputs

    def _answer(self, model, prompt, parameters):
        assert parameters.temperature == 0.0
        assert len(prompt) + parameters.max_tokens <= self.arguments["max_model_len"]
        ids = list(prompt)
        for _ in range(parameters.max_tokens):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in parameters.stop_token_ids:
                break
        return output_of(ids[len(prompt) :])


def output_of(token_ids):
    """The output of one request."""
    return types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=token_ids)])


def install(monkeypatch):
    """Make `import vllm` give the stand-in, and return the list of the engines that are started."""
    LLM.started = []
    modules = {name: types.ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    modules["vllm"].LLM, modules["vllm"].SamplingParams = LLM, SamplingParams
    modules["vllm.lora.request"].LoRARequest = LoRARequest
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 << 30, 8 << 30))
    return LLM.started
