"""Settings of a stack that tests of one component look at, where the other parts do not matter."""

from components.settings import (
    Adopted,
    ClusterDatabase,
    DevelopmentAuthority,
    Evaluator,
    Spire,
    StackSettings,
)


def lab_settings(cluster: str) -> StackSettings:
    return StackSettings(
        cluster=cluster,
        production=False,
        kubernetes=Adopted(kubeconfig="kubeconfig"),
        spire=Spire(
            replicas=2,
            authority=DevelopmentAuthority(secret="spire-development-ca"),
            datastore=ClusterDatabase(storage="1Gi"),
        ),
        evaluator=Evaluator(replicas=3),
        audit=ClusterDatabase(storage="1Gi"),
    )
