package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each key and each policy that docs/postfix.md names in its second column is there,
// and each in its sentences that looks like a key of a table.
func TestThePostfixPageNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../../docs/postfix.md")
	if err != nil {
		t.Fatal(err)
	}
	known := PolicyNames()
	var tables []string
	for _, k := range Keys() {
		name := k.Name
		table, _, _ := strings.Cut(name, ".")
		if of := k.list(); of != "" {
			name = "[[" + of + "]] " + strings.TrimPrefix(name, of+".")
		} else if table != name {
			tables = append(tables, table)
		}
		known = append(known, name)
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	named := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, ""), " | ")
		for i, cell := range cells {
			for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
				table, _, dotted := strings.Cut(m[1], ".")
				if here := len(cells) == 3 && i == 1; !here && !strings.HasPrefix(m[1], "[[") && !(dotted && slices.Contains(tables, table)) {
					continue
				}
				if named++; !slices.Contains(known, m[1]) {
					t.Errorf("docs/postfix.md names `%s`, which there is not", m[1])
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("it names %d keys and policies", named)
	}
}

// Its example is a configuration that is good.
func TestThePostfixPagesExampleIsGood(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../../docs/postfix.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```toml\n")
	text, _, found := strings.Cut(text, "```")
	path := t.TempDir() + "/incoming.toml"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, nil); !found || err != nil {
		t.Error(err)
	}
}
