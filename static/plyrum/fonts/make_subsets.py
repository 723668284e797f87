"""Remake the WOFF2 files of this folder from the published font packages.

Run by a person who updates a font; never by the build or the site. It takes the folder of unpacked
`@fontsource-variable` packages (npm pack, tar xzf) and writes two files per family: Latin with the
signs the site needs (rouble, arrows, "almost equal"), and Cyrillic. The packages keep those signs in
other subset files, so their outlines are carried over one by one.

    python make_subsets.py <folder with the unpacked packages>
"""

import sys
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

HERE = Path(__file__).parent
LATIN = [*range(0x20, 0x7F), 0xA0, 0xA7, 0xA9, 0xAB, 0xB0, 0xB1, 0xB7, 0xBB, 0xD7, 0xE9, 0xF7]
TYPOGRAPHIC = [*range(0x2011, 0x2015), 0x2018, 0x2019, 0x201A, 0x201C, 0x201D, 0x201E, 0x2022, 0x2026, 0x2212]
CYRILLIC = [0x401, 0x451, *range(0x410, 0x450), 0x2116]
SIGNS = [0x20BD, 0x2190, 0x2192, 0x2191, 0x2193, 0x2248, 0x2264, 0x2265]
FAMILIES = {
    "onest": ("latin-ext", "math", "latin"),
    "jetbrains-mono": ("latin-ext", "latin"),
}
# Ligatures of the code font are left out: what is copied must look like what is pasted.
FEATURES = ["kern", "mark", "mkmk", "ccmp", "locl", "tnum", "zero", "case"]


def subset(path: Path, codes: list[int], *, layout: bool) -> TTFont:
    """Return the font of `path` with only `codes`; without layout tables when `layout` is false."""
    font = TTFont(path)
    options = Options(hinting=False, layout_features=FEATURES, notdef_outline=True, name_IDs=["*"])
    if not layout:
        options.drop_tables += ["GSUB", "GPOS", "GDEF", "HVAR", "MVAR"]
    worker = Subsetter(options)
    worker.populate(unicodes=codes)
    worker.subset(font)
    return font


def graft(target: TTFont, source: TTFont) -> None:
    """Add every encoded glyph of `source` that `target` lacks, with its variations and width."""
    known = target.getBestCmap()
    names = {code: name for code, name in source.getBestCmap().items() if code not in known}
    order = target.getGlyphOrder()
    for code, name in names.items():
        if name in order:
            raise SystemExit(f"glyph {name} exists twice")
        glyph = source["glyf"][name]
        if glyph.isComposite():
            raise SystemExit(f"glyph {name} is composite")
        order.append(name)
        target["glyf"].glyphs[name] = glyph
        target["hmtx"].metrics[name] = source["hmtx"].metrics[name]
        target["gvar"].variations[name] = source["gvar"].variations.get(name, [])
        for table in target["cmap"].tables:
            if table.isUnicode():
                table.cmap[code] = name
    target.setGlyphOrder(order)
    target["glyf"].glyphOrder = order
    target["maxp"].numGlyphs = len(order)
    # The widths of the new glyphs vary by their outlines' own points; the old table knows only the old ones.
    if "HVAR" in target:
        del target["HVAR"]


def save(font: TTFont, name: str) -> None:
    font.flavor = "woff2"
    font.save(HERE / name)


def main(root: Path) -> None:
    for family, sources in FAMILIES.items():
        files = next(root.glob(f"fontsource-variable-{family}-*")) / "package" / "files"
        latin = subset(files / f"{family}-latin-wght-normal.woff2", LATIN + TYPOGRAPHIC, layout=True)
        for part in sources:
            graft(latin, subset(files / f"{family}-{part}-wght-normal.woff2", SIGNS, layout=False))
        save(latin, f"{family}-latin.woff2")
        cyrillic = subset(files / f"{family}-cyrillic-wght-normal.woff2", CYRILLIC, layout=True)
        save(cyrillic, f"{family}-cyrillic.woff2")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
