"""Public corpora by name, for `{source: hub, name: NAME}`: where they lie, under which terms, and how large they are.

Only data: nothing is fetched here. Sizes are those of the named configuration as its authors state them, counted with
their tokenizer; `about` says what to know before training on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    dataset: str
    """`owner/name` on the hub."""
    config: str | None
    text: str
    """The field that holds the text; empty where the hub holds no text."""
    licence: str
    tokens: int
    """Tokens of the train split, as stated or, where `about` says so, estimated at 4 bytes a token."""
    gated: str = ""
    """What has to be done before the hub hands it out; empty where nothing has to."""
    category: str | None = None
    """The field that becomes the document's category."""
    split: str = "train"
    about: str = ""


PRESETS: Mapping[str, Preset] = {
    "tinystories": Preset(
        "roneneldan/TinyStories", None, "text", "CDLA-Sharing-1.0", 470_000_000,
        about="Short stories in a small vocabulary, written by GPT-3.5 and GPT-4. Tokens estimated from 1.9 GB.",
    ),
    "wikipedia": Preset(
        "wikimedia/wikipedia", "20231101.en", "text", "CC-BY-SA-3.0 and GFDL", 5_000_000_000,
        about="English Wikipedia, cleaned, one article a document; other languages by `config: 20231101.de`. "
        "Tokens estimated from 20 GB. Share alike: texts keep the licence when passed on.",
    ),
    "fineweb-edu": Preset(
        "HuggingFaceFW/fineweb-edu", "sample-10BT", "text", "ODC-By-1.0 and Common Crawl's terms", 10_000_000_000,
        about="Web pages that a classifier found educational. `config: sample-100BT`, `sample-350BT`, or `default` "
        "for all 1.3T tokens.",
    ),
    "slimpajama": Preset(
        "DKYoon/SlimPajama-6B", None, "text", "those of its seven parts (Common Crawl, C4, GitHub, books, arXiv, "
        "Wikipedia CC-BY-SA, StackExchange CC-BY-SA)", 6_000_000_000,
        about="A 1 % sample of cerebras/SlimPajama-627B (deduplicated RedPajama), as Parquet. The whole is "
        "`name: cerebras/SlimPajama-627B`, 627B tokens. Its part of books is disputed.",
    ),
    "stack-v2": Preset(
        "bigcode/the-stack-v2-train-smol-ids", None, "", "each file's own: permissive, or none found", 200_000_000_000,
        gated="accept the terms at huggingface.co/datasets/bigcode/the-stack-v2-train-smol-ids and log in with "
        "`hf auth login`; bulk download needs an agreement with Software Heritage",
        about="Source code in 17 languages. The hub holds identifiers only, the text lies with Software Heritage. "
        "Fetch it as the data set's page says, then name your own copy. Tokens estimated.",
    ),
    "arxiv": Preset(
        "common-pile/arxiv_papers_filtered", None, "text", "each paper's own: CC-BY, CC-BY-SA or CC0", 4_900_000_000,
        about="Full text of 304,048 openly licensed arXiv papers, 19.5 GB, as JSON lines and without a loading script.",
    ),
    "openwebmath": Preset(
        "open-web-math/open-web-math", None, "text", "ODC-By-1.0 and Common Crawl's terms", 14_700_000_000,
        about="6.3 million web pages with mathematics, from Common Crawl.",
    ),
    "pg19": Preset(
        "emozilla/pg19", None, "text", "public domain in the US (the collection: Apache-2.0)", 2_900_000_000,
        about="28,602 Project Gutenberg books from before 1919, 11.5 GB. A Parquet copy: deepmind/pg19 itself needs a "
        "loading script, which current `datasets` refuses to run. Tokens estimated.",
    ),
}  # fmt: skip
