"""Remake the fonts of printed documents: Onest of this folder as two plain TrueType files.

Run by a person who updates a font; never by the build or the site. A PDF takes neither WOFF2 nor a variable
font, so each weight is fixed, and the Latin and the Cyrillic file become one.

    python make_document_fonts.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from fontTools.merge import Merger
from fontTools.ttLib import TTFont
from fontTools.varLib.instancer import instantiateVariableFont

HERE = Path(__file__).parent
TARGET = HERE.parents[2] / "payments" / "invoices" / "fonts"
WEIGHTS = {"regular": 400, "semibold": 600}
PARTS = ("latin", "cyrillic")
LAYOUT_TABLES = ("GSUB", "GPOS", "GDEF")  # the PDF library does not use them


def fixed(part: str, weight: int) -> TTFont:
    font = TTFont(HERE / f"onest-{part}.woff2")
    font.flavor = None
    for table in LAYOUT_TABLES:
        if table in font:
            del font[table]
    return instantiateVariableFont(font, {"wght": weight})


def main() -> None:
    for name, weight in WEIGHTS.items():
        with TemporaryDirectory() as folder:
            paths = []
            for part in PARTS:
                path = Path(folder) / f"{part}.ttf"
                fixed(part, weight).save(path)
                paths.append(str(path))
            whole = Merger().merge(paths)
            for name_id in (1, 3, 4, 6):  # two fonts of one name would be taken for the same one
                whole["name"].setName(f"Onest-{name.title()}", name_id, 3, 1, 0x409)
            whole.save(TARGET / f"onest-{name}.ttf")


if __name__ == "__main__":
    main()
