package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/incoming-mx/incoming"
)

// source is one Go file of the module, whatever system it is for.
type source struct {
	path string // from the root, with slashes
	file *ast.File
	fset *token.FileSet
}

// folder is the package's path within the module; "." is the root.
func (s *source) folder() string { return path.Dir(s.path) }

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// at is a place in the file, for people to go to.
func (s *source) at(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

// imports yields the path of each import.
func (s *source) imports(yield func(spec *ast.ImportSpec, path string) bool) {
	for _, spec := range s.file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil && !yield(spec, p) {
			return
		}
	}
}

// sources is every Go file of the module.
func sources(t *testing.T) []*source {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("only %d files under %s: this looks at the wrong place", len(all), root)
	}
	return all
}

var parsed = sync.OnceValues(func() (all []*source, _ error) {
	fset := token.NewFileSet()
	return all, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && isForeign(name, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		all = append(all, &source{path: filepath.ToSlash(rel), file: file, fset: fset})
		return err
	})
})

// isForeign reports whether a folder is none of the module's.
func isForeign(name, base string) bool {
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	return err == nil
}
