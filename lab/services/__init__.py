"""The teams' services of the lab: what they run, how they are deployed, and how they are dialled.

``application``, ``caller``, ``dialing`` and ``steady`` run in pods: standard library alone, Python
3.11, and no import of the rest of the lab.
"""
