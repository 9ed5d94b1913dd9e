"""Training: settings with their reasons (`settings`), supervised fine-tuning (`sft`), tuning by preferences (`preference`), and pretraining
from scratch (`pretrain`)."""

from ftlab.train.preference import DpoConfig, train_dpo
from ftlab.train.settings import PROFILES, SftConfig, sft_config
from ftlab.train.sft import train_sft

__all__ = ["DpoConfig", "PROFILES", "SftConfig", "sft_config", "train_dpo", "train_sft"]
