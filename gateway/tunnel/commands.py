"""``zt keys rotate``: a gateway's key is changed while traffic goes on."""

from __future__ import annotations

import subprocess

import click

_CONTAINER = "wireguard"
_PROGRAM = ("python3", "-m", "gateway.tunnel.control")


@click.command()
@click.option("--kubeconfig", type=click.Path(dir_okay=False, exists=True))
@click.option("--context", help="Of the kubeconfig, for the gateway's cluster.")
@click.option("--namespace", default="hanzo", show_default=True, help="Of the gateway.")
@click.option("--gateway", default="wg-gateway", show_default=True, help="Its Deployment.")
@click.option("--call-off", is_flag=True, help="Call off the rotation that was begun there.")
def rotate(
    *,
    kubeconfig: str | None,
    context: str | None,
    namespace: str,
    gateway: str,
    call_off: bool,
) -> None:
    """Give a gateway a new WireGuard key, without a lost packet.

    The gateway makes the key and KMS keeps it; its peers learn the public one over the tunnel.
    Each step is said as it is taken. Peers must be up, and so must KMS.

    \b
      zt keys rotate --context hanzo-k8s
      zt keys rotate --context lux-k8s --namespace lux
    """  # noqa: D301 - click's sign for lines that stay
    where = [
        *(("--kubeconfig", kubeconfig) if kubeconfig else ()),
        *(("--context", context) if context else ()),
    ]
    told = "call-off" if call_off else "rotate"
    command = ["kubectl", *where, "exec", f"--namespace={namespace}", f"deployment/{gateway}"]
    try:
        done = subprocess.run(  # noqa: S603 - kubectl, of the PATH
            [*command, f"--container={_CONTAINER}", "--", *_PROGRAM, told], check=False
        )
    except OSError as error:
        raise click.ClickException(f"kubectl can't be run: {error.strerror}") from None
    if done.returncode != 0:
        raise SystemExit(done.returncode)
