package config

import (
	"fmt"
	"io"
	"strings"
)

// Render is the whole default as a commented file. Every key is commented out:
// the file as it stands means the defaults, now and in later versions, and with
// the mark before a line taken away it still does, until a value is changed.
func Render() string {
	var b strings.Builder
	b.WriteString(`# Every option of incoming, with its default. Take the # before an option away
# to change it; flags of the command line win over this file.
#
# Durations are written "90s", "5m", "168h", sizes "10MiB". A limit of 0 is its
# default; "none", or a negative number, is no limit.
`)
	table := ""
	for _, k := range Keys() {
		section, name, nested := strings.Cut(k.Name, ".")
		if !nested {
			section, name = "", k.Name
		}
		if section != table {
			table = section
			header := "[" + section + "]"
			if k.in != nil {
				header = "# " + listOf(k).intro + "\n# [[" + section + "]]"
				if listOf(k).needed {
					header = strings.Replace(header, "# [[", "#[[", 1)
				}
			}
			b.WriteString("\n" + header + "\n")
		} else {
			b.WriteString("\n")
		}
		writeKey(&b, k, name)
	}
	return b.String()
}

func writeKey(w io.Writer, k Key, name string) {
	doc := k.Doc + "."
	if k.Restart {
		doc += " A change wants a restart."
	}
	for _, line := range wrap(doc, 76) {
		fmt.Fprintf(w, "# %s\n", line)
	}
	if k.Default == "" {
		fmt.Fprintf(w, "# Such as: %s = %s\n", name, k.Example)
		return
	}
	fmt.Fprintf(w, "#%s = %s\n", name, k.shownDefault())
}

func (k Key) shownDefault() string { return show(k.example()) }

// example is where the key's value is in the default configuration, which for a
// key of a list has one table of it.
func (k Key) example() any {
	c := Default()
	if k.in != nil {
		listOf(k).one(c)
		c.fill()
	}
	return k.places(c)[0]
}

// wrap breaks text at spaces into lines of at most width octets, where it can.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// Markdown is the table of keys for the manual.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| key | default | what it does | reload |\n|---|---|---|---|\n")
	for _, k := range Keys() {
		value := "—"
		if k.Default != "" {
			value = "`" + k.shownDefault() + "`"
		}
		reload := "yes"
		if k.Restart {
			reload = "restart"
		}
		name := k.Name
		if of := k.list(); of != "" {
			name = "[[" + of + "]] " + strings.TrimPrefix(name, of+".")
		}
		doc := strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(k.Doc)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, value, doc, reload)
	}
	return b.String()
}
