"""Bloomery executes training plans for unconventional small language models.

A plan is a YAML file: stages in order, each with a gate fixed beforehand, prescriptions for when it fails, a dense
control trained on the same tokens, and a budget. See docs/design.md.
"""

__version__ = "0.1.0"
