"""What lies outside a cluster, in a pod of it: a web server with data, a Hub with the base model, hosted models.

The hosted models are one script behind the wire formats of OpenAI and Anthropic: it says yes to questions, finds
everything right that it is asked to grade or to guard, and writes as many rows as are wanted.

`python -m tests.e2e.outside HOST` runs there, in an image that has nothing but Python and cryptography. The rest of
this module makes its objects.
"""

from __future__ import annotations

import json
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.hosted_models import Asked, HostedModels, Said, handler
from tests.support.https_server import Address, body, certificate, https_server
from tests.support.hub_server import hub_server

Object = dict[str, Any]
NAME = "outside"
TRUST = "outside-ca"
ROWS_PORT, HUB_PORT, STORAGE_PORT, MODELS_PORT = 8443, 8444, 8445, 8080
REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
#: The one of the hosted models that is a guard.
GUARD = "guard-1"
ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "tests/e2e/outside.py",
    "tests/support/hosted_models.py",
    "tests/support/https_server.py",
    "tests/support/hub_server.py",
)

#: What instructions show as the reply that they want, and the reply.
VERDICTS = {'{"grade":': '{"grade": 5}', '{"better":': '{"better": "neither"}', '{"verdict":': '{"verdict": "correct"}'}


def obliging(asked: Asked) -> Said:
    """The script of all hosted models."""
    if asked.body["model"] == GUARD:
        return Said("Safety: Safe\nCategories: None\nRefusal: No")
    told = str(asked.body.get("system") or asked.body["messages"][0]["content"])
    if '{"rows":' in told:
        wanted = json.loads(asked.text)
        turn = wanted["example"]["turns"][-1]["content"]
        rows = [{"prompt": f"{turn} Say it {n} times.", "answer": f"{n} times"} for n in range(2, 2 + wanted["wanted"])]
        return Said(json.dumps({"rows": rows}))
    return Said(next((reply for shown, reply in VERDICTS.items() if shown in told), "yes"))


def serve(host: str, tls: Path, rows: Path, model: Path) -> None:
    """Serves until it is killed: `rows` by HTTPS, `model` as a Hub does, and hosted models."""
    at = {port: Address("", port, host) for port in (ROWS_PORT, HUB_PORT, STORAGE_PORT)}
    with (
        https_server(tls, {f"/{rows.name}": body(rows.read_bytes())}, at[ROWS_PORT]),
        hub_server(tls, at[HUB_PORT], at[STORAGE_PORT]) as hub,
    ):
        hub.put(REPOSITORY, {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()})
        ThreadingHTTPServer(("", MODELS_PORT), handler(HostedModels("", obliging))).serve_forever()


def objects(namespace: str, image: str, folder: Path, rows: str) -> list[Object]:
    """Secrets, ConfigMap, Service and pod. `folder` gets key and certificate."""
    host = f"{NAME}.{namespace}.svc"
    key, ca = certificate(folder, host)
    files = {path.replace("/", "."): (ROOT / path).read_text() for path in MODULES}
    return [
        secret(NAME, {"tls.key": key.read_text(), "ca.crt": ca.read_text()}),
        secret(TRUST, {"ca.crt": ca.read_text()}),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME},
            "data": {**files, "rows.jsonl": rows},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME},
            "spec": {
                "selector": {"app": NAME},
                "ports": [
                    {"name": f"p{port}", "port": port} for port in (ROWS_PORT, HUB_PORT, STORAGE_PORT, MODELS_PORT)
                ],
            },
        },
        pod(image, host),
    ]


def hosted(protocol: str, model: str, price: Object, host: str = NAME) -> Object:
    """One of the hosted models, as objects of the namespace name it."""
    url = f"http://{host}:{MODELS_PORT}{'/v1' if protocol == 'openAI' else ''}"
    return {protocol: {"baseUrl": url, "model": model}, "price": price}


def secret(name: str, keys: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys}


def pod(image: str, host: str) -> Object:
    """Passes Pod Security `restricted`, like every pod here."""
    modules = [{"key": path.replace("/", "."), "path": path} for path in MODULES]
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "tests.e2e.outside", host],
        "env": [{"name": "PYTHONPATH", "value": "/files"}],
        "readinessProbe": {"tcpSocket": {"port": MODELS_PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "files", "mountPath": "/files"},
            {"name": "tls", "mountPath": "/tls"},
            {"name": "claim", "mountPath": "/claim", "readOnly": True},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [
                {
                    "name": "files",
                    "configMap": {"name": NAME, "items": [*modules, {"key": "rows.jsonl", "path": "rows.jsonl"}]},
                },
                {"name": "tls", "secret": {"secretName": NAME}},
                {"name": "claim", "persistentVolumeClaim": {"claimName": "hub", "readOnly": True}},
            ],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        },
    }


if __name__ == "__main__":
    serve(sys.argv[1], Path("/tls"), Path("/files/rows.jsonl"), Path("/claim/smollm2-135m-instruct"))
