"""The gauntlet: generated questions in eight categories, each with a reference and a checker (specs/data.md, 4).

    item.py       what an item and a template are; draws that no version of Python changes
    answers.py    what counts as the answer in what a model wrote
    arithmetic.py factual.py reasoning.py counting.py coding.py formats.py instruct.py creative.py: the templates
    words.py      what questions are made of
    program.py    functions that a model wrote: what they may hold, and their run in a process of their own
    generate.py   the set: unique tuples, even answers, no item that junk would solve
    rivals.py     the best constant answer and another item's answer
    source.py     the set as documents

Nothing here loads torch or numpy.
"""
