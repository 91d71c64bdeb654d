"""The modeling file of an exported model that is no plain transformer: it imports bloomery and adds nothing.

It stands here as text, for transformers is no dependency. Weights are read by bloomery's own loader from model.json and
model.safetensors, never by transformers', which would build the model without what it computes at construction.
"""

MODELING = '''"""A Bloomery model: AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True).

Written by `bloomery export --to hf`. Needs bloomery (and the package of the model's system) installed. No padding, no
cache: every new token reads the whole text again.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from bloomery.stages import models
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class BloomeryConfig(PretrainedConfig):
    model_type = "bloomery"

    def __init__(self, vocab_size=0, **more):
        more["use_cache"] = False
        super().__init__(**more)
        self.vocab_size = vocab_size


class BloomeryForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = BloomeryConfig
    main_input_name = "input_ids"
    _tied_weights_keys = {}
    all_tied_weights_keys = {}

    def __init__(self, config, model=None):
        super().__init__(config)
        if model is None:
            raise ValueError("use from_pretrained: the weights lie in the folder")
        self.model = model
        self.generation_config.use_cache = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, config=None, **more):
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder: download it first")
        if config is None:
            config = BloomeryConfig.from_pretrained(folder)
        return cls(config, models.load_model(folder, precision="fp32")).eval()

    def forward(self, input_ids, attention_mask=None, labels=None, **more):
        if attention_mask is not None and not bool(torch.as_tensor(attention_mask).bool().all()):
            raise ValueError("padding is not supported: batch texts of one length")
        logits = self.model(input_ids).logits
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **more):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def get_input_embeddings(self):
        return None

    def tie_weights(self, *args, **more):
        pass
'''
