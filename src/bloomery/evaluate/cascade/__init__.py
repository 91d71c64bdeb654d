"""Several that answer behind one name: who is asked, in which order, whose answer is taken, and what feedback changes.

    card.py        what a cascade is made of, as an author writes it and as a stage leaves it
    routing.py     the order for one prompt: as declared, by inverse document frequency, or by what was learned
    confidence.py  how sure a member was, and whether its answer is taken
    feedback.py    routing weights as a function of the votes that stand
    answering.py   a whole cascade without a server: for stages, and the reference of the one that serves

Only answering.py loads torch; the others are pure.
"""
