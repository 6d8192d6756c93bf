package report

import (
	"fmt"
	"html/template"
	"image/color"
	"regexp"
	"strings"
)

// Charts are drawn once and follow the page from light to dark: every color in them is a placeholder that stands
// for a variable of the page's style sheet.

// shade is a color of the light and of the dark page.
type shade struct{ name, light, dark string }

// shades are the placeholders, numbered. The first two are the text and the grid; then one per engine, in the
// order of engineShades.
var shades = []shade{
	{"fg", "#1f2328", "#e6edf3"},
	{"grid", "#d8dee4", "#30363d"},
	{"alder", "#0b62d6", "#58a6ff"},
	{"bbolt", "#6e7781", "#9aa4af"},
	{"bbolt-batch", "#424a53", "#c9d1d9"},
	{"bbolt-hashmap", "#a89b80", "#8b7d5e"},
	{"lmdb", "#1a7f37", "#3fb950"},
	{"lmdb-c", "#4d8f00", "#a5d64c"},
	{"lmdb-writemap", "#00694e", "#2bd4a4"},
	{"pebble", "#bc4c00", "#f0883e"},
	{"badger", "#8250df", "#bc8cff"},
	{"sqlite", "#0a8080", "#39c5cf"},
	{"buntdb", "#bf3989", "#f778ba"},
	{"append", "#9a6700", "#e3b341"},
	{"other", "#8c564b", "#c49c94"},
}

// placeholder is the color that stands for shade i in a drawing.
func placeholder(i int) color.Color { return color.NRGBA{R: 1, G: 2, B: uint8(i + 1), A: 255} }

// ink is the placeholder of a name; engines without a color of their own share one.
func ink(name string) color.Color {
	for i, s := range shades {
		if s.name == name {
			return placeholder(i)
		}
	}
	return placeholder(len(shades) - 1)
}

var drawnColor = regexp.MustCompile(`#0102([0-9A-Fa-f]{2})`)

var drawnFont = regexp.MustCompile(`font-family:[^;"]*;font-variant:[^;"]*;font-weight:[^;"]*;font-style:[^;"]*`)

// themed replaces the placeholders of a drawing by the variables of the style sheet.
func themed(svg string) template.HTML {
	svg = drawnColor.ReplaceAllStringFunc(svg, func(hex string) string {
		var n int
		if _, err := fmt.Sscanf(hex[5:], "%x", &n); err != nil || n < 1 || n > len(shades) {
			return hex
		}
		return "var(--" + shades[n-1].name + ")"
	})
	svg = drawnFont.ReplaceAllString(svg, "font-family:inherit")
	if at := strings.Index(svg, "<svg"); at > 0 {
		svg = svg[at:] // an XML declaration has no place inside of a page
	}
	return template.HTML(svg)
}

// palette is the style sheet's part with the colors.
func palette() template.CSS {
	var light, dark strings.Builder
	for _, s := range shades {
		fmt.Fprintf(&light, "--%s:%s;", s.name, s.light)
		fmt.Fprintf(&dark, "--%s:%s;", s.name, s.dark)
	}
	return template.CSS(":root{color-scheme:light dark;--bg:#fff;--soft:#f6f8fa;" + light.String() + "}\n" +
		"@media (prefers-color-scheme: dark){:root{--bg:#0d1117;--soft:#161b22;" + dark.String() + "}}\n")
}
