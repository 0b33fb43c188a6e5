"""A small project whose task `TASK` reaches code in every way that code can be reached."""

from pathlib import Path

from cnn.support.fingerprint import CodeBase

TASK = "tasks.work.work"
#: Name of each file → its text.
FILES = {
    "pkg/__init__.py": '"""The package."""\nfrom pkg.behind import exported\nfrom pkg.unused import unused\n',
    "pkg/rooms/core.py": '''"""What the task calls."""

import logging
import warnings

import numpy as np
import scipy
import pkg.dotted
import pkg.aliased as nickname
import pkg.looked_at
import pkg.whole as whole
from pkg import exported
from pkg.conditions import CONDITION
from pkg.named import helper as renamed, other
from pkg.stars import *
from pkg.support.backend import mx
from pkg.support.errors import UserError
from pkg.support import progress
from pkg.support.files import save
from . import sibling
from .near import near
from ..deep.leaf import leaf

if CONDITION:
    from pkg.conditional import conditional
try:
    from pkg.tried import tried
except ImportError:
    tried = None

logger = logging.getLogger("core")
RATE: float = 0.1
UNUSED = 7
MESSAGE = "no {}"


def decorate(function):
    return function


@decorate
def run(image, size: int = 224):
    """Run."""
    # a comment
    logger.info("running %s", image)
    print("to the terminal")
    warnings.warn("warned")
    if image is None:
        logger.debug("there is no image")
    assert size, "there is no size"
    if size < 1:
        raise UserError("too small") from None
    unit = "px"
    detail = f"of {size} {unit}"
    detail += " or so"
    if size > 9000:
        raise UserError(f"too large: {detail}")
    if size == 13:
        raise UserError(MESSAGE.format(size))
    if size == 14:
        raise refusal(size)
    total: int = RATE * size
    for each in progress.track(image, "reading " + "images", unit=f"image {size}"):
        total += near(each) + renamed(each) + leaf(each) + sibling.close(each)
    table = {"first": first}
    save(total)
    return table, Model, pkg.dotted.named(total), nickname.a, exported(total), starred(total), late(), np.float32(total)


def refusal(size):
    text = "an unlucky number"
    return UserError(f"{size} is {text}")


def first():
    return conditional(tried, getattr(whole, "any_of_it"), pkg.looked_at.__file__)


def late():
    from pkg.late import late_function
    import pkg.later as later
    return late_function(later.later_function, mx.nd.array, recursive)


def recursive(n):
    scores = [scaled for scaled in range(n)]
    return recursive(n - 1) + len(scores)


def unreached():
    return scipy.special.expit(0)


class Model:
    """A model."""

    width: int = Field(3, description="how wide")
    owner: "Owner"

    def area(self):
        """Its area."""
        return self.width**2


class Owner:
    name = "owner"


def scaled():
    return "a local variable has its name"
''',
    "pkg/rooms/near.py": "from pkg.rooms import core\n\nREGISTRY = {}\n\n\n"
    "def near(x):\n    return REGISTRY['key'](x, core.RATE)\n\n\n"
    "def registered(x):\n    return x + 1\n\n\ndef register(f):\n    return f\n\n\n"
    "@register\ndef decorated(x):\n    return x + 2\n\n\nREGISTRY['key'] = registered\n",
    "pkg/rooms/sibling.py": "def close(x):\n    return x + 1\n\n\ndef distant(x):\n    return x - 1\n",
    "pkg/behind.py": "def exported(x):\n    return x + 1\n",
    "pkg/dotted.py": "def named(x):\n    return x + 1\n\n\ndef unnamed(x):\n    return x - 1\n",
    "pkg/aliased.py": "a, b = 1, 2\nc = 3\n",
    "pkg/whole.py": "from pkg.unused import unused\n\n\ndef any_of_it(x):\n    return x + 1\n",
    "pkg/looked_at.py": "x = 1\n",
    "pkg/conditions.py": "CONDITION = True\n",
    "pkg/named.py": "def helper(x):\n    return x + 1\n\n\ndef other(x):\n    return x - 1\n",
    "pkg/stars.py": "def starred(x):\n    return x + 1\n\n\ndef unstarred(x):\n    return x - 1\n",
    "pkg/conditional.py": "def conditional(x, y):\n    return x + 1\n",
    "pkg/tried.py": "def tried(x):\n    return x + 1\n",
    "pkg/late.py": "def late_function(*x):\n    return x + 1\n",
    "pkg/later.py": "def later_function(x):\n    return x + 1\n",
    "pkg/deep/__init__.py": "import pkg.unused\nlist_of = []\nlist_of.append(pkg.unused.unused)\n",
    "pkg/deep/leaf.py": "def leaf(x):\n    return x + 1\n",
    "pkg/unused.py": "def unused(x):\n    return x + 1\n",
    "pkg/inputs.py": "class Settings:\n    def doubled(self):\n        return 2 * self.size\n",
    "pkg/support/errors.py": "class UserError(Exception):\n    status = 1\n",
    "pkg/support/progress.py": "def track(items, *texts, **named):\n    return items\n",
    "pkg/support/files.py": "import yaml\n\n\ndef save(x):\n    return yaml.dump(x)\n",
    "pkg/support/backend.py": "import mxnet as mx\n",
    "tasks/work.py": '''"""The task."""

import prefect
from pkg.inputs import Settings
from pkg.rooms.core import run
from tasks.machinery import prepare, step


@step("work")
def work(settings: Settings, image):
    """Work."""
    return prepare(run, image)
''',
    "tasks/machinery.py": "from pkg.named import other\nfrom pkg.sources import open_source\n\n\n"
    "def step(name):\n    return other\n\n\ndef prepare(function, x):\n    return function(open_source(x))\n",
    "pkg/sources.py": "def open_source(x):\n    return x + 1\n",
}


def code_base(root: Path, files: dict[str, str] = FILES) -> CodeBase:
    """Write the files below ``root``; this is the code base that they are."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return CodeBase(
        root=root,
        packages=("pkg", "tasks"),
        not_hashed=("tasks",),
        ignored=("pkg.support",),
        silent=("pkg.support.errors", "pkg.support.progress"),
        stand_ins={"pkg.support.backend.mx": "mxnet"},
    )
