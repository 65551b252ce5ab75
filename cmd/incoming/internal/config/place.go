package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// inPlace shows where in the file a conflict is; one that has no place there,
// such as a key in an inline table, is told with the file's name alone.
func inPlace(path string, text []byte, err error) error {
	var c *conflict
	if errors.As(err, &c) {
		for _, key := range c.keys {
			if e := find(text, key, c.nth); e != nil {
				e.Path, e.Message = path, c.text
				return e
			}
		}
	}
	return fmt.Errorf("config %s: %w", path, err)
}

// find is where key is given a value in text; one of a list in its nth
// table, from 0. nil is nowhere.
func find(text []byte, key string, nth int) *FileError {
	var p unstable.Parser
	p.Reset(text)
	table, tables := "", map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable && e.Kind != unstable.KeyValue {
			continue
		}
		var parts []string
		var last *unstable.Node
		for k := e.Key(); k.Next(); {
			last = k.Node()
			parts = append(parts, string(last.Data))
		}
		name := strings.Join(parts, ".")
		if e.Kind != unstable.KeyValue {
			table = name + "."
			if e.Kind == unstable.ArrayTable {
				tables[name]++
			}
			continue
		}
		list, _, _ := strings.Cut(key, ".")
		if table+name == key && (tables[list] == 0 || tables[list] == nth+1) {
			at := p.Shape(last.Raw).Start
			return &FileError{Line: at.Line, Column: at.Column, Excerpt: excerpt(text, at.Line, at.Column, int(last.Raw.Length))}
		}
	}
	return nil
}
