"Installs mpst_nb from settings.ini, the one place that names the version and the requirements."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
readme = here / "README.md"

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license="Apache-2.0",
    keywords=cfg["keywords"],
    classifiers=["Programming Language :: Python :: 3", "Intended Audience :: Science/Research"],
    packages=find_packages(include=["mpst_nb", "mpst_nb.*"]),
    package_data={"mpst_nb": ["templates/*"]},  # pages and style sheets: the one part of the package that no notebook exports
    data_files=[(f"share/mpst_nb/{d.relative_to(here / 'data')}", [str(f.relative_to(here)) for f in sorted(d.iterdir())]) for d in sorted(here.glob("data/weights/*/*"))],  # so that `from_pretrained` works without a clone
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={"dev": cfg["dev_requirements"].split(), "cluster": cfg["cluster_requirements"].split()},
    entry_points={
        # `mpst`, and a `papermill` of our own: papermill's command, which in a terminal also does without an output path for a notebook of this
        # project (see nbs/60_cli). pip installs papermill, a requirement, before this package, so that this script is the one that stays.
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
    zip_safe=False,
)
