package arch

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// manual is every page that people read: the root's and those of docs.
func manual(t *testing.T) (pages []string) {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(root, "docs"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(name) == ".md" {
			pages = append(pages, name)
		}
		return err
	})
	if err != nil || !slices.Contains(pages, filepath.Join(root, "README.md")) {
		t.Fatalf("pages %q: %v", pages, err)
	}
	return pages
}

func TestEachLinkOfTheManualLeadsSomewhere(t *testing.T) {
	t.Parallel()
	for _, page := range manual(t) {
		text := read(t, page)
		for _, link := range links(text) {
			if why := dead(t, page, link); why != "" {
				t.Errorf("%s: %s: %s", strings.TrimPrefix(page, root+"/"), link, why)
			}
		}
	}
}

func TestADeadLinkIsFound(t *testing.T) {
	t.Parallel()
	page := filepath.Join(root, "docs/README.md")
	for link, ok := range map[string]bool{
		"operations.md": true, "../README.md": true, "decisions": true, "https://example.org/": true, "#documentation": true,
		"../README.md#what-it-promises": true, "nowhere.md": false, "#nowhere": false, "../README.md#nowhere": false, "../../x": false,
	} {
		if why := dead(t, page, link); (why == "") != ok {
			t.Errorf("%s: %q", link, why)
		}
	}
	if got := links("[a](b) `[c](d)` ![e](f \"g\")\n```\n[h](i)\n```\n[j](<k l>)"); !slices.Equal(got, []string{"b", "f", "k l"}) {
		t.Errorf("links %q", got)
	}
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	inCode  = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\((?:<([^>\n]+)>|([^)\s]+))`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+?) *$`)
)

// links is what a page links to.
func links(text string) (to []string) {
	text = inCode.ReplaceAllString(fenced.ReplaceAllString(text, ""), "")
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		to = append(to, m[1]+m[2])
	}
	return to
}

// dead says why a link of a page leads nowhere. Links to elsewhere are not
// followed.
func dead(t *testing.T, page, link string) string {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		return err.Error()
	}
	if u.IsAbs() {
		return ""
	}
	target := page
	if u.Path != "" {
		target = filepath.Join(filepath.Dir(page), filepath.FromSlash(u.Path))
	}
	if out, err := filepath.Rel(root, target); err != nil || strings.HasPrefix(out, "..") {
		return "is outside of the repository"
	}
	if _, err := os.Stat(target); err != nil {
		return "there is no such file"
	}
	if u.Fragment == "" {
		return ""
	}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, target), ""), -1) {
		if anchor(m[1]) == u.Fragment {
			return ""
		}
	}
	return "there is no such heading"
}

// anchor is the name under which a heading can be linked to.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
