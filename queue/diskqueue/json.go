package diskqueue

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

type rawJSON = json.RawMessage

// text is a string that survives JSON whatever its octets: one that is not
// UTF-8 is written as {"base64": "…"}, where a JSON string would put other
// characters in their place.
type text string

func (t text) MarshalJSON() ([]byte, error) { return t.append(make([]byte, 0, len(t)+2)), nil }

func (t text) append(b []byte) []byte { return appendText(b, []byte(t)) } // which copies nothing

// appendText is text.append for what is octets already.
func appendText(b, t []byte) []byte {
	if utf8.Valid(t) {
		return appendString(b, t)
	}
	return fmt.Appendf(b, `{"base64":%q}`, base64.StdEncoding.EncodeToString(t))
}

// appendString quotes valid UTF-8. It leaves <, > and & alone, which
// json.Marshal does not, so that addresses can be found with grep.
func appendString(b, s []byte) []byte {
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ' || c == 0x7f:
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var o struct{ Base64 []byte }
		if err := json.Unmarshal(b, &o); err != nil {
			return err
		}
		*t = text(o.Base64)
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*t = text(s)
	return nil
}

// count is a number that may be missing; then it is null. (A pointer would put all
// of a metaJSON on the heap.)
type count struct {
	n     int64
	known bool
}

func (c count) MarshalJSON() ([]byte, error) {
	if !c.known {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, c.n, 10), nil
}

func (c *count) UnmarshalJSON(b []byte) error {
	c.known = string(b) != "null"
	return json.Unmarshal(b, &c.n)
}

// stamp is how times are written: to the millisecond, in UTC.
const stamp = "2006-01-02T15:04:05.000Z"

func timeText(t time.Time) text {
	if t.IsZero() {
		return ""
	}
	return text(t.UTC().Format(stamp))
}

// time reads a time of ours or of the Elixir original, which wrote
// microseconds. What is no time, or lies where milliseconds since 1970 cannot
// count, is not ok.
func (t text) time() (time.Time, bool) {
	if t == "" {
		return time.Time{}, false
	}
	v, err := time.Parse(time.RFC3339Nano, string(t))
	if err != nil || v.Year() < 1 || v.Year() > 9999 {
		return time.Time{}, false
	}
	return v.UTC().Truncate(time.Millisecond), true
}

// marshal writes v, a struct, with the keys of extra behind its own.
func marshal(v any, extra map[string]rawJSON) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	if len(extra) == 0 {
		return b.Bytes(), nil
	}
	b.Truncate(b.Len() - len("}\n"))
	b.WriteByte(',')
	var more bytes.Buffer
	enc = json.NewEncoder(&more)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(extra); err != nil {
		return nil, err
	}
	b.Write(more.Bytes()[1:]) // behind its opening brace
	return b.Bytes(), nil
}

// unmarshalMeta reads what we write at one go; for anything else it takes the
// object apart and keeps of it what can be understood.
func unmarshalMeta(b []byte) (*metaJSON, map[string]rawJSON, error) {
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		return nil, nil, errors.New("no JSON object")
	}
	m := new(metaJSON)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err == nil && keysAreOurs(b) {
		if _, err := dec.Token(); err == io.EOF {
			return m, nil, nil
		}
	}
	var keys map[string]rawJSON
	if err := json.Unmarshal(b, &keys); err != nil {
		return nil, nil, err
	}
	m = new(metaJSON)
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		raw, ok := keys[key]
		delete(keys, key)
		if !ok {
			continue
		}
		field := v.Field(i)
		if json.Unmarshal(raw, field.Addr().Interface()) != nil {
			field.SetZero() // makes no sense: as if it were missing
		}
	}
	return m, keys, nil
}

// keysAreOurs reports whether each key of the JSON object b is one of metaJSON's
// to the letter. encoding/json takes SIZE for size as well, but that is a key
// which somebody else has put there.
func keysAreOurs(b []byte) bool {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			from := i + 1
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if i >= len(b) {
				return false
			}
			isKey := depth == 1 && bytes.HasPrefix(bytes.TrimLeft(b[i+1:], " \t\r\n"), []byte(":"))
			if isKey && !metaKeys[string(b[from:i])] {
				return false
			}
		}
	}
	return true
}

// metaKeys is the keys of metaJSON.
var metaKeys = func() map[string]bool {
	keys := make(map[string]bool)
	for field := range reflect.TypeFor[metaJSON]().Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		keys[key] = true
	}
	return keys
}()

// deadJSON is dead.json: why a message is dead, and since when. The Elixir
// original wrote rejected_at and reason.
type deadJSON struct {
	RejectedAt text `json:"rejected_at"`
	Reason     text `json:"reason"`
	Kind       text `json:"kind,omitempty"`
	// Detail is what was found, where Reason is a fixed word.
	Detail text `json:"detail,omitempty"`
	// Keep is how long it is kept, such as 48h0m0s, where not as the options say;
	// negative: for ever.
	Keep text `json:"keep,omitempty"`
}
