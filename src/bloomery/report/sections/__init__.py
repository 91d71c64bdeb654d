"""The parts of the page, in its order: the verdict, the evidence, the record."""
