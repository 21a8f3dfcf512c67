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


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


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


def descriptor(media_type, content, **more):
    return {
        "mediaType": f"application/vnd.oci.image.{media_type}",
        "digest": digest(content),
        "size": len(content),
        **more,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("output")
    parser.add_argument("layers", nargs="+")
    parser.add_argument("--entrypoint", action="append", default=[])
    arguments = parser.parse_args()

    layers = [layer(source) for source in arguments.layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": arguments.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", config),
            "layers": [descriptor("layer.v1.tar", each) for each in layers],
        }
    ).encode()
    names = {
        "io.containerd.image.name": arguments.name,
        "org.opencontainers.image.ref.name": arguments.name,
    }
    index = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [descriptor("manifest.v1+json", manifest, annotations=names)],
        }
    ).encode()

    with tarfile.open(arguments.output + ".new", "w") as archive:

        def add(path, content):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add("index.json", index)
        for content in {digest(c): c for c in (*layers, config, manifest)}.values():
            add("blobs/sha256/" + digest(content).removeprefix("sha256:"), content)
    os.rename(arguments.output + ".new", arguments.output)


if __name__ == "__main__":
    main()
