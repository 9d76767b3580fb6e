"""A fleet on one machine: a real hub, and devices that decide as real ones do, on virtual time.

Everything that decides is the real thing: the hub with its database, the agents' :mod:`~farshore.agent.plan`, their notes and
their reports. What acts is simulated: links, disks, inference servers, and what goes wrong with them, all from one seed, so that the
same seed tells the same story.
"""
