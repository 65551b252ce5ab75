package arch

import (
	"fmt"
	"go/ast"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// asked is the cases that must be in docs/cases.md, by family: what other
// servers went wrong on. A case that is found later is a row more.
var asked = map[string]string{
	"A": "01 02 03 05 07 08 09 11 12 14 15 16 17 18",
	"B": "01 03 04 05 06 07 08 10 11 12 13 14 15 16 17",
	"C": "01 02 03 05 06 08 09 10",
	"D": "01 02 03 04 05 06 07 08 09 10 11 12 14 16 17 18 19 20 21 22 23 25 26",
	"E": "01 02 03 04 06 08 10 11 12 15 16 17 18 19 20",
	"Q": "01 02 03 04 05 06 07 08 09 10 11 13 14 15 16 17 18 19 20 21 22 23 24 25",
	"R": "01 03 04 05 06 07 08 10 11 12 14 15 16 18 19",
	"S": "01 02 03 04 06 07 08 09 10 11 12 14 15 17 18 20 22 24 25 26 27 28 29 30 31 32 33 34 35 36 37 39 41 43 44 45",
	"T": "01 02 03 05 06 07 08 09 10 11 12 13 14 15 17",
}

var (
	caseID    = regexp.MustCompile(`\b[ABCDEQRST][0-9]{2}\b`)
	caseRow   = regexp.MustCompile(`(?m)^\| ([A-Z][0-9]{2}) \| ([^|\n]+) \| ([^|\n]+) \|$`)
	clientRow = regexp.MustCompile("(?m)^\\| ([^|\n]{4,}) \\| (`[^|\n]+`) \\|$")
	caseName  = regexp.MustCompile("`([^`]+)`")
)

func TestEachCaseIsTestedOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	page := read(t, filepath.Join(root, "docs/cases.md"))
	for _, fault := range caseFaults(page, caseTests(t)) {
		t.Errorf("docs/cases.md: %s", fault)
	}
}

// The test above would pass if it found nothing.
func TestACaseWithoutItsTestIsFound(t *testing.T) {
	t.Parallel()
	page := read(t, filepath.Join(root, "docs/cases.md"))
	tests := caseTests(t)
	for name, c := range map[string]struct{ from, to, want string }{
		"a row that is gone":           {"\n| S10 |", "\n| S1O |", "no row for S10"},
		"a transcript that is gone":    {"`E01-*`", "`E01-gone`", "E01-gone"},
		"a test that is gone":          {"`smtp.TestTimeoutAfterBareLFSaysSo`", "`smtp.TestGone`", "smtp.TestGone"},
		"a test of another case":       {"`E02-*`", "`E03-*`", "E03-* does not carry E02"},
		"no test and no reason":        {"`E05-*`", "soon", "neither a test nor a reason"},
		"a client's test that is gone": {"`client-helo-and-fin`", "`client-gone`", "client-gone"},
		"a case that has no row":       {"\n| S21 |", "\n| S2l |", "no row for S21"},
	} {
		changed := strings.Replace(page, c.from, c.to, 1)
		faults := strings.Join(caseFaults(changed, tests), "\n")
		if changed == page || !strings.Contains(faults, c.want) {
			t.Errorf("%s: found %q, want %q", name, faults, c.want)
		}
	}
}

// caseTests is every transcript of the wire and every test by its name, and the
// cases that each carries in its name or in its comment.
func caseTests(t *testing.T) map[string][]string {
	t.Helper()
	tests := make(map[string][]string)
	files, err := filepath.Glob(filepath.Join(root, "smtp/testdata/*.txt"))
	if err != nil || len(files) < 100 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		tests[name] = caseID.FindAllString(name, 1)
	}
	for _, s := range sources(t) {
		if !s.isTest() {
			continue
		}
		folder := s.folder()
		if folder == "." {
			folder = "incoming"
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if ok && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
				tests[folder+"."+f.Name.Name] = caseID.FindAllString(f.Doc.Text(), -1)
			}
		}
	}
	return tests
}

// caseFaults is what is wrong with the page.
func caseFaults(page string, tests map[string][]string) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	tested := make(map[string]bool) // whether a row names tests
	for _, row := range caseRow.FindAllStringSubmatch(page, -1) {
		id, where := row[1], row[3]
		if _, twice := tested[id]; twice {
			fault("two rows for %s", id)
		}
		names := caseName.FindAllStringSubmatch(where, -1)
		tested[id] = len(names) > 0
		if len(names) == 0 && !strings.HasPrefix(where, "not here: ") && !strings.HasPrefix(where, "by design: ") {
			fault("%s has neither a test nor a reason", id)
		}
		for _, name := range names {
			switch found, carries := findTest(tests, name[1], id); {
			case !found:
				fault("%s names %s, and there is none", id, name[1])
			case !carries:
				fault("%s does not carry %s", name[1], id)
			}
		}
	}
	for family, numbers := range asked {
		for _, number := range strings.Fields(numbers) {
			if _, ok := tested[family+number]; !ok {
				fault("no row for %s%s", family, number)
			}
		}
	}
	for name, ids := range tests {
		for _, id := range ids {
			if with, ok := tested[id]; !ok {
				fault("no row for %s, which %s carries", id, name)
			} else if !with {
				fault("%s names no test, and %s carries it", id, name)
			}
		}
	}
	clients := clientRow.FindAllStringSubmatch(page, -1)
	if len(clients) < 25 {
		fault("%d rows of what clients do", len(clients))
	}
	for _, row := range clients {
		for _, name := range caseName.FindAllStringSubmatch(row[2], -1) {
			if found, _ := findTest(tests, name[1], ""); !found {
				fault("%q names %s, and there is none", row[1], name[1])
			}
		}
	}
	return faults
}

// findTest looks for a test or transcript of that name, or by a pattern of names;
// it carries a case when all that are found do.
func findTest(tests map[string][]string, pattern, id string) (found, carries bool) {
	carries = true
	for name, ids := range tests {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			found, carries = true, carries && slices.Contains(ids, id)
		}
	}
	return found, carries
}
