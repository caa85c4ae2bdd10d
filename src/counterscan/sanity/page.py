"""What `counterscan sanity` leaves for people: two pictures, and one self-contained page with the verdicts."""

import base64
import io
from pathlib import Path

from PIL import Image

from counterscan.data.files import write_whole
from counterscan.sanity.drawing import randomised_picture, shortcut_picture
from counterscan.sanity.examination import Examination
from counterscan.templating import page_style, template


def write_page(found: Examination, folder: Path) -> Path:
    """Write shortcut.png, randomised.png where a classifier was randomised, and index.html into `folder`."""
    from jinja2 import Environment

    pictures = {"shortcut": _png(shortcut_picture(found))}
    if found.weights.cascading or found.shuffled:
        pictures["randomised"] = _png(randomised_picture(found))
    for name, content in pictures.items():
        write_whole(folder / f"{name}.png", content)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(template("sanity.html")).render(
        style=page_style(),
        facts=found.facts,
        checks=found.checks,
        pictures={name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in pictures.items()},
        stages=[("from the answer back", found.weights.cascading), ("one group alone", found.weights.independent)],
    )
    return write_whole(folder / "index.html", text.encode())


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
