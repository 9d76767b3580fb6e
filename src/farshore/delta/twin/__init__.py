"""The kernel once more, in Python: slow, and the same bits. For machines without a compiler, and to test the other."""
