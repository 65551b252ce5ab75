package incoming_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/telemetry"
)

var (
	docCode   = regexp.MustCompile("`([^`]+)`")
	docQuoted = regexp.MustCompile(`"[^"]*"`)
	docName   = regexp.MustCompile(`\b[A-Z]\w*\b`)
	docInPkg  = regexp.MustCompile(`\b(incoming|smtp|policy|queue|diskqueue|memqueue|delivery|telemetry)\.([A-Z]\w*)`)
	docKey    = regexp.MustCompile(`^(queue|limits|delivery|rate_limit|timeouts|metrics)\.[a-z_]+$`)
)

// The page for those who come from the Elixir library names only what there is:
// what is left of each table's last columns, and of the Go code, is ours.
func TestElixirPageNamesWhatExists(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/elixir.md")
	keys := read(t, "docs/configuration.md")
	top, all := exportedNames(t)
	seen := 0
	for line := range strings.Lines(page) {
		for _, m := range docInPkg.FindAllStringSubmatch(line, -1) {
			seen++
			if !top[m[1]][m[2]] {
				t.Errorf("there is no %s in %q", m[0], line)
			}
		}
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue // no row
		}
		for _, code := range docCode.FindAllStringSubmatch(strings.Join(cells[2:], "|"), -1) {
			text := code[1]
			if docKey.MatchString(text) {
				seen++
				if !strings.Contains(keys, "`"+text+"`") {
					t.Errorf("there is no option %s in %q", text, line)
				}
				continue
			}
			if strings.Contains(text, "Incoming.") || strings.ContainsRune("0123456789[{:", rune(text[0])) {
				continue // of the other side, or a reply
			}
			for _, name := range docName.FindAllString(docQuoted.ReplaceAllString(text, ""), -1) {
				seen++
				if !all[name] && name != strings.ToUpper(name) {
					t.Errorf("there is no %s in %q", name, line)
				}
			}
		}
	}
	if seen < 150 {
		t.Errorf("only %d names found: this test no longer reads the page", seen)
	}
	hooks := reflect.TypeFor[telemetry.Hooks]()
	for i := range hooks.NumField() {
		if name := hooks.Field(i).Name; !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the hook %s is not on the page", name)
		}
	}
}

// exportedNames is what the packages that the page speaks of declare: at the top
// level, by package, and with fields and methods.
func exportedNames(t *testing.T) (top map[string]map[string]bool, all map[string]bool) {
	t.Helper()
	top, all = make(map[string]map[string]bool), make(map[string]bool)
	for _, dir := range []string{".", "smtp", "header", "policy", "queue", "queue/diskqueue", "queue/memqueue", "delivery", "telemetry"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			in := top[file.Name.Name]
			if in == nil {
				in = make(map[string]bool)
				top[file.Name.Name] = in
			}
			for _, decl := range file.Decls {
				declared(decl, func(name string) { in[name], all[name] = true, true }, func(name string) { all[name] = true })
			}
		}
	}
	return top, all
}

func declared(decl ast.Decl, atTop, within func(name string)) {
	if f, ok := decl.(*ast.FuncDecl); ok {
		if f.Recv == nil {
			atTop(f.Name.Name)
		} else {
			within(f.Name.Name)
		}
		return
	}
	for _, spec := range decl.(*ast.GenDecl).Specs {
		switch spec := spec.(type) {
		case *ast.ValueSpec:
			for _, n := range spec.Names {
				atTop(n.Name)
			}
		case *ast.TypeSpec:
			atTop(spec.Name.Name)
			ast.Inspect(spec.Type, func(n ast.Node) bool {
				f, ok := n.(*ast.Field)
				if !ok {
					return true
				}
				for _, name := range f.Names {
					within(name.Name)
				}
				if embedded, ok := f.Type.(*ast.Ident); ok && len(f.Names) == 0 {
					within(embedded.Name)
				}
				return true
			})
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
