package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// set gives the value at p, a pointer into a Config, the meaning of text, as
// --set and the table write it: as in TOML, or without the quotes; a list split at
// commas or written as in TOML.
func set(p any, text string) error {
	switch p := p.(type) {
	case *string, encoding.TextUnmarshaler:
		value, err := unquote(text)
		if err != nil {
			return err
		}
		return assign(p, value)
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*p = b
		return nil
	}
	list := reflect.ValueOf(p).Elem()
	if list.Kind() == reflect.Map {
		return setTable(list, text)
	}
	items, err := splitList(text)
	if err != nil {
		return err
	}
	out := reflect.MakeSlice(list.Type(), len(items), len(items))
	for i, item := range items {
		if err := assign(out.Index(i).Addr().Interface(), item); err != nil {
			return err
		}
	}
	list.Set(out)
	return nil
}

// assign gives the value at p, a *string or an encoding.TextUnmarshaler, that text.
func assign(p any, text string) error {
	if p, is := p.(*string); is {
		*p = text
		return nil
	}
	return p.(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
}

// setTable takes an inline table, as TOML has it: {name = "value"}.
func setTable(m reflect.Value, text string) error {
	doc := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "X", Type: m.Type()}}))
	err := toml.Unmarshal([]byte("x = "+text), doc.Interface())
	if err == nil {
		m.Set(doc.Elem().Field(0))
		return nil
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) && len(bad.Key()) > 1 { // in one of its values
		return errors.New(strings.TrimPrefix(err.Error(), "toml: "))
	}
	return fmt.Errorf("%s is no table; write {name = \"value\"}", text)
}

// unquote is what s says when it is in quotes, as TOML has them, and else s.
func unquote(s string) (string, error) {
	if len(s) < 2 || s[0] != '"' && s[0] != '\'' || s[len(s)-1] != s[0] {
		return s, nil
	}
	var doc struct{ X string }
	if err := toml.Unmarshal([]byte("x = "+s), &doc); err != nil {
		return "", fmt.Errorf("%s is no string of TOML (%s); write it without the quotes, or what is within as TOML does",
			s, strings.TrimPrefix(err.Error(), "toml: "))
	}
	return doc.X, nil
}

func splitList(text string) ([]string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return []string{}, nil
	}
	if strings.HasPrefix(text, "[") {
		var doc struct{ X []string }
		if err := toml.Unmarshal([]byte("x = "+text), &doc); err != nil {
			return nil, fmt.Errorf("%s is no list; write a,b or [\"a\", \"b\"]", text)
		}
		return doc.X, nil
	}
	if strings.ContainsAny(text, `"'`) { // all of them in quotes, and a comma may be within
		var doc struct{ X []string }
		if toml.Unmarshal([]byte("x = ["+text+"]"), &doc) == nil {
			return doc.X, nil
		}
	}
	items := strings.Split(text, ",")
	for i := range items {
		var err error
		if items[i], err = unquote(strings.TrimSpace(items[i])); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// show is the value at p in TOML.
func show(p any) string {
	switch p := p.(type) {
	case *bool:
		return strconv.FormatBool(*p)
	case *Count:
		if p.N >= 0 {
			return p.String()
		}
		return quote(p.String())
	case fmt.Stringer:
		return quote(p.String())
	}
	v := reflect.ValueOf(p).Elem()
	switch v.Kind() {
	case reflect.Map:
		return showTable(v)
	case reflect.Interface: // in a table of any
		return fmt.Sprintf("%#v", v.Interface())
	case reflect.Slice:
	default:
		return quote(v.String())
	}
	items := make([]string, v.Len())
	for i := range items {
		items[i] = show(v.Index(i).Addr().Interface())
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// showTable is a map as an inline table, sorted by its keys.
func showTable(m reflect.Value) string {
	var items []string
	for entries := m.MapRange(); entries.Next(); {
		v := reflect.New(m.Type().Elem())
		v.Elem().Set(entries.Value())
		items = append(items, tableKey(entries.Key().String())+" = "+show(v.Interface()))
	}
	slices.Sort(items)
	return "{" + strings.Join(items, ", ") + "}"
}

// tableKey is a key as it is written, in quotes where they are needed.
func tableKey(s string) string {
	bare := s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == ""
	if bare {
		return s
	}
	return quote(s)
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteRune('\\')
			b.WriteRune(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// unset reports whether the value at p means the default: not a bool, zero, and
// for a list not even given.
func unset(p any) bool {
	if _, is := p.(*bool); is {
		return false
	}
	return reflect.ValueOf(p).Elem().IsZero()
}

// Default is the configuration without any file or flag.
func Default() *Config {
	c := new(Config)
	for _, k := range Keys() {
		if k.at != nil && k.Default != "" {
			must(set(k.at(c), k.Default))
		}
	}
	c.fill()
	return c
}

// fill gives what is zero its default, and at least one listener.
func (c *Config) fill() {
	if c.Listeners == nil {
		c.Listeners = []Listener{{}}
	}
	for _, k := range Keys() {
		if k.Default == "" {
			continue
		}
		for _, p := range k.places(c) {
			if unset(p) {
				must(set(p, k.Default))
			}
		}
	}
}

// places is where in c the key's values are: one, or one a table of its list.
func (k Key) places(c *Config) []any {
	if k.at != nil {
		return []any{k.at(c)}
	}
	var ps []any
	for i := range listOf(k).n(c) {
		ps = append(ps, k.in(c, i))
	}
	return ps
}

// must is for defaults of the table: a bad one is a mistake in this package,
// which its tests find.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Clone is a copy that shares nothing with c.
func (c *Config) Clone() *Config {
	n := *c
	n.Listeners, n.Routes = slices.Clone(c.Listeners), slices.Clone(c.Routes)
	n.Milters, n.DNSBLs = slices.Clone(c.Milters), slices.Clone(c.DNSBLs)
	for _, k := range Keys() {
		for _, p := range k.places(&n) {
			switch v := reflect.ValueOf(p).Elem(); {
			case v.Kind() == reflect.Slice && !v.IsNil():
				v.Set(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v))
			case v.Kind() == reflect.Map && !v.IsNil():
				was := v.MapRange()
				m := reflect.MakeMap(v.Type())
				for was.Next() {
					m.SetMapIndex(was.Key(), was.Value())
				}
				v.Set(m)
			}
		}
	}
	return &n
}

// copyValue sets what p points to from what q does, both of one type.
func copyValue(p, q any) { reflect.ValueOf(p).Elem().Set(reflect.ValueOf(q).Elem()) }
