package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// FileError is what is wrong with a file: Error is one line, Excerpt shows the
// place with a caret under it.
type FileError struct {
	Path         string
	Line, Column int
	Message      string
	Excerpt      string
	More         int // further errors of the same sort
}

func (e *FileError) Error() string {
	msg := fmt.Sprintf("%s:%d:%d: %s", e.Path, e.Line, e.Column, e.Message)
	if e.More > 0 {
		msg += fmt.Sprintf(" (and %d more)", e.More)
	}
	return msg
}

// Place is the Excerpt.
func (e *FileError) Place() string { return e.Excerpt }

// explain turns the decoder's error into a FileError in our words.
func explain(path string, text []byte, err error) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) && len(missing.Errors) > 0 {
		first := &missing.Errors[0]
		e := spot(path, text, first)
		e.Message = unknownKey(strings.Join(first.Key(), "."))
		e.More = len(missing.Errors) - 1
		return e
	}
	var bad *toml.DecodeError
	if !errors.As(err, &bad) {
		return fmt.Errorf("config %s: %w", path, err)
	}
	e := spot(path, text, bad)
	e.Message = strings.TrimPrefix(bad.Error(), "toml: ")
	name := strings.Join(bad.Key(), ".")
	switch {
	case strings.HasPrefix(e.Message, "cannot decode TOML ") || strings.HasPrefix(e.Message, "cannot store "):
		e.Message = fmt.Sprintf("%s %s", name, wants(name))
	case name != "":
		e.Message = name + ": " + e.Message
	}
	return e
}

// wants says what a key's value looks like.
func wants(name string) string {
	for _, k := range Keys() {
		if k.Name != name {
			continue
		}
		v := reflect.ValueOf(k.example()).Elem()
		switch {
		case v.Kind() == reflect.Map:
			return `is a table, such as {name = "value"}`
		case v.Kind() == reflect.Bool:
			return "is true or false"
		case v.Kind() == reflect.Slice:
			return `is a list of strings, such as ["a", "b"]`
		}
		return "is a string, in quotes"
	}
	for _, l := range lists() {
		if name == l.name {
			return "is a list of tables; write [[" + name + "]] above its keys"
		}
	}
	return "is a table; write [" + name + "] above its keys"
}

// unknownKey says that there is no such key, and which one was meant.
func unknownKey(name string) string {
	msg := "unknown key " + name
	var names []string
	for _, k := range Keys() {
		names = append(names, k.Name)
	}
	names = append(names, "listener.certificate.cert", "listener.certificate.key") // of its tables
	if n := nearest(name, names); n != "" {
		return msg + "; did you mean " + n + "?"
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	for _, n := range names {
		if n[strings.LastIndexByte(n, '.')+1:] == last {
			return msg + "; did you mean " + n + "?"
		}
	}
	var tables []string
	for _, n := range names {
		if table, _, ok := strings.Cut(n, "."); ok {
			tables = append(tables, table)
		}
	}
	if t := nearest(name, tables); t != "" {
		return msg + "; did you mean " + t + "?"
	}
	return msg + `; "incoming config" prints them all`
}

// spot is the place of err, with the line and a caret under it.
func spot(path string, text []byte, err *toml.DecodeError) *FileError {
	line, column := err.Position()
	return &FileError{Path: path, Line: line, Column: column, Excerpt: excerpt(text, line, column, width(err.String()))}
}

// excerpt is a line of text, with carets under a part of it; "" when there is
// no such line.
func excerpt(text []byte, line, column, width int) string {
	lines := bytes.Split(text, []byte("\n"))
	if line < 1 || line > len(lines) {
		return ""
	}
	number := fmt.Sprintf("%5d | ", line)
	shown := strings.ReplaceAll(string(bytes.TrimSuffix(lines[line-1], []byte("\r"))), "\t", " ")
	return number + shown + "\n" + strings.Repeat(" ", len(number)-2) + "| " +
		strings.Repeat(" ", max(0, column-1)) + strings.Repeat("^", width) + "\n"
}

// width is how many letters the decoder marks, from the tildes under them.
func width(human string) int {
	for line := range strings.Lines(human) {
		margin, rest, ok := strings.Cut(line, "|")
		mark := strings.TrimLeft(rest, " ")
		if ok && strings.TrimSpace(margin) == "" && strings.HasPrefix(mark, "~") {
			return len(mark) - len(strings.TrimLeft(mark, "~"))
		}
	}
	return 1
}
