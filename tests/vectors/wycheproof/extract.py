"""Makes ed25519.json and jws.json out of the `testvectors_v1` folder of C2SP/wycheproof.

python3 extract.py <path of testvectors_v1> <commit>
"""

import json
import sys
from pathlib import Path

folder, commit = Path(sys.argv[1]), sys.argv[2]
here = Path(__file__).parent


def groups(name):
    return json.loads((folder / name).read_text())["testGroups"]


def write(name, content):
    lines = ",\n".join(json.dumps(vector) for vector in content.pop("vectors"))
    head = json.dumps({"source": f"https://github.com/C2SP/wycheproof {commit}", **content})
    (here / name).write_text(f'{head[:-1]}, "vectors": [\n{lines}\n]}}\n')


write("ed25519.json", {"vectors": [
    {
        "id": test["tcId"],
        "key": group["publicKey"]["pk"],
        "message": test["msg"],
        "signature": test["sig"],
        "valid": test["result"] == "valid",
        "comment": test["comment"],
    }
    for group in groups("ed25519_test.json")
    for test in group["tests"]
]})

sets, vectors = [], []
for name, short in [("json_web_signature_test.json", "jws"), ("json_web_key_test.json", "jwk")]:
    for group in groups(name):
        key = group.get("public", group["private"])
        keys = key["keys"] if "keys" in key else [key]
        if keys not in sets:
            sets.append(keys)
        vectors += [
            {
                "id": f"{short}-{test['tcId']}",
                "keys": sets.index(keys),
                "jws": test["jws"],
                "valid": test["result"] == "valid",
                "comment": test["comment"],
            }
            for test in group["tests"]
        ]
write("jws.json", {"keys": sets, "vectors": vectors})
