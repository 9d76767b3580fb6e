"""The words that hub, agent and inference server share: pure values and checks, no IO, no clock.

A thing is here only if two processes use it and ``docs/vocabulary.md`` names it.
"""
