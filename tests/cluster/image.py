#!/usr/bin/env python3
"""Makes an OCI image, as a tar for `ctr images import`, without a container engine.

usage: image.py NAME OUTPUT [--entrypoint PROGRAM]... LAYER...

A LAYER is a tar of a root file system, or HOST_PATH=IMAGE_PATH for a single executable.
"""

import argparse
import hashlib
import io
import json
import os
import tarfile


def layer(source):
    """The bytes of one layer."""
    host, separator, path = source.partition("=")
    if not separator:
        with open(host, "rb") as file:
            return file.read()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.mode, entry.size = 0o755, os.path.getsize(host)
        with open(host, "rb") as file:
            archive.addfile(entry, file)
    return buffer.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("output")
    parser.add_argument("layers", nargs="+")
    parser.add_argument("--entrypoint", action="append", default=[])
    arguments = parser.parse_args()

    blobs = {}

    def store(media_type, content):
        """Keeps a blob by its digest; returns its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {
            "mediaType": f"application/vnd.oci.image.{media_type}",
            "digest": f"sha256:{digest}",
            "size": len(content),
        }

    layers = [store("layer.v1.tar", layer(source)) for source in arguments.layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": arguments.entrypoint,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        # Layers are not compressed, so what they unpack to has the same digest.
        "rootfs": {"type": "layers", "diff_ids": [each["digest"] for each in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": store("config.v1+json", json.dumps(config).encode()),
        "layers": layers,
    }
    image = store("manifest.v1+json", json.dumps(manifest).encode())
    image["annotations"] = {
        "io.containerd.image.name": arguments.name,
        "org.opencontainers.image.ref.name": arguments.name,
    }
    index = {"schemaVersion": 2, "manifests": [image]}

    with tarfile.open(arguments.output + ".new", "w") as archive:

        def add(path, content):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add("index.json", json.dumps(index).encode())
        for digest, content in blobs.items():
            add(f"blobs/sha256/{digest}", content)
    os.rename(arguments.output + ".new", arguments.output)


if __name__ == "__main__":
    main()
