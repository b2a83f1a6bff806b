import sys, json, time
from pathlib import Path
from lab.stack.folder import opened, program
from lab.stack import run as R
from lab.cluster.model import ControlPlane
import httpx, pytest
from tests.lab.pulumi.small import admin

@pytest.mark.timeout(600)
@pytest.mark.parametrize("cluster",["hanzo-k8s","lux-k8s"])
def test_it(engine, control_planes, cluster):
    kc = control_planes[cluster].kubeconfig
    with admin(kc) as http:
        for ns in ("hanzo","monitoring","lux"):
            http.post("/api/v1/namespaces", json={"metadata":{"name":ns}})
        stack = opened("lab-"+cluster, engine, {"kubernetes":{"adopt":{"kubeconfig":str(kc)}}})
        try:
            stack.up(target=["**Cluster**","**Namespaces**"], on_output=print)
        except Exception as e:
            print("TARGET", str(e)[-3000:])
        t=time.time()
        try:
            r=stack.up(on_output=print)
            print("UP", time.time()-t, r.summary.resource_changes, r.outputs)
            t=time.time(); r=stack.preview(on_output=print); print("PREVIEW", time.time()-t, r.change_summary)
        finally:
            stack.destroy(on_output=lambda x: None)
            print({k: http.get("/api/v1/namespaces/"+k).json().get("metadata",{}).get("labels") for k in ("hanzo","lux","spire-system")})
