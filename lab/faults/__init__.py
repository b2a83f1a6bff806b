"""Breaks parts of a running lab, one after the other, under traffic that is counted.

    flows     which flows run, out of which pods, and which may not pass
    traffic   runs them by the callers in the pods, and gathers what they say
    tally     what they said, counted
    kinds     what can break, how, and when it is back
    hearing   whether all who follow the API server hear of a change
    expect    what each may do to the traffic, and for how long
    run       one fault after the other
    report    one report of all: JSON and the page of the documentation

The same traffic runs while certificates rotate (``rotation``, ``sidecars``), and while calls are
granted and revoked (``granting``, ``change``).
"""
