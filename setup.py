"""The packages of the wheel: custom, nomaly, and the bundles with configs, cards and weights as nomaly/bundles."""

from __future__ import annotations

from setuptools import find_packages, setup

BUNDLES = "nomaly.bundles"
FILES = ("configs/*", "docs/*", "models/model.pt", "models/provenance.json", "LICENSE", "variant.json")

setup(
    packages=[*find_packages(include=["custom", "custom.*", "nomaly", "nomaly.*"]), BUNDLES],
    package_dir={BUNDLES: "bundles"},
    package_data={
        "custom": [
            "py.typed",
            "reporting/*.jinja",
            "deploy/app.yaml",
            "public_sets/manifests/*.csv",
            "networks/pretrained/*",
        ],
        "nomaly": ["py.typed"],
        BUNDLES: [f"*/{name}" for name in FILES],
    },
)
