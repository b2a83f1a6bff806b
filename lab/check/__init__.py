"""What a lab promises beside its pairs: certificates, probes, Jobs, names, metrics, the API server.

Each check is a function of a ``Site``, one cluster that runs, and says of each pod or pair what it
saw. None changes anything that stays.
"""
