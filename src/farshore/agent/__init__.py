"""The agent: brings a device to what the hub desires, by one loop of five verbs.

Read desired, read what is here, plan, act, report. The plan is a pure function over a snapshot (:mod:`plan`); all that
acts can be killed at any instant, because after a start the same question is simply asked again over what is on disk.

Rules of the room: nothing here loads a model or a runtime; every durable write goes through :mod:`farshore.store`; an
intention is noted before it is acted upon (:mod:`journal`); time, network and inference server are arguments.
"""
