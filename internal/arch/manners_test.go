package arch

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// Nothing happens because a package was imported.
func TestNothingHappensAtImport(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: an init function", s.at(f))
			}
		}
		if s.isTest() {
			continue
		}
		s.imports(func(spec *ast.ImportSpec, imported string) bool {
			if spec.Name != nil && spec.Name.Name == "_" {
				t.Errorf("%s: a blank import of %s", s.at(spec), imported)
			}
			return true
		})
	}
}

// A sleep is a presumption about how fast something is, save in the false time
// of a synctest bubble.
func TestNoTestSleeps(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if !s.isTest() || s.importsAny("testing/synctest") {
			continue
		}
		s.calls("time", func(call *ast.SelectorExpr) {
			if call.Sel.Name == "Sleep" {
				t.Errorf("%s: time.Sleep in a test without synctest", s.at(call))
			}
		})
	}
}

// Only a program looks at its environment: a library is told.
func TestOnlyProgramsReadTheEnvironment(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.isTest() || isOrUnder(s.folder(), "cmd") || isOrUnder(s.folder(), "examples") || isOrUnder(s.folder(), "test") {
			continue
		}
		s.calls("os", func(call *ast.SelectorExpr) {
			if slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Args"}, call.Sel.Name) {
				t.Errorf("%s: os.%s", s.at(call), call.Sel.Name)
			}
		})
	}
}

// A slow test is compiled with the others and asks the environment whether to
// run: what a build tag hides rots.
func TestNoTestHidesBehindABuildTag(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if !s.isTest() {
			continue
		}
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				if tag, ok := strings.CutPrefix(c.Text, "//go:build "); ok && !slices.Contains(systems, tag) {
					t.Errorf("%s: a test only for %s", s.at(c), tag)
				}
			}
		}
	}
}

// systems is what a test file may depend on: where it runs, and how it was built.
var systems = []string{"linux", "!linux", "unix", "race", "!race"}

func (s *source) importsAny(paths ...string) (found bool) {
	s.imports(func(_ *ast.ImportSpec, imported string) bool {
		found = slices.Contains(paths, imported)
		return !found
	})
	return found
}

// calls yields each use of a name of a package.
func (s *source) calls(pkg string, yield func(*ast.SelectorExpr)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg {
				yield(sel)
			}
		}
		return true
	})
}
